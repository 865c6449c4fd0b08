"""Signatures of deliveries, held against the published library of Standard Webhooks."""

from __future__ import annotations

import base64
import json
import os
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook, WebhookVerificationError

from exoflow.crm.signing import BadSecret, headers, secret_key, sign

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()


def test_the_standards_own_example():
    """Standard Webhooks 1.0.0, section "Signature scheme", and its libraries' test vector."""
    signature = sign(
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}'
    )
    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@given(st.binary(min_size=24, max_size=64), st.text("abcdef0123456789_", min_size=1), st.dictionaries(st.text(), st.integers()))
def test_the_published_library_accepts_what_we_sign(key, msg_id, data):
    secret = "whsec_" + base64.b64encode(key).decode()
    body = json.dumps(data, ensure_ascii=False).encode("utf-8", "surrogatepass")
    sent = headers(secret, msg_id, int(time.time()), body)
    assert Webhook(secret).verify(body, sent) == data


def test_a_changed_body_id_or_time_is_noticed():
    now, body = int(time.time()), b'{"type":"call.ended"}'
    sent = headers(SECRET, "m1", now, body)
    for changed in ({"webhook-id": "m2"}, {"webhook-timestamp": str(now + 1)}):
        with pytest.raises(WebhookVerificationError):
            Webhook(SECRET).verify(body, sent | changed)
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(b'{"type":"call.missed"}', sent)


def test_a_secret_without_padding_or_with_a_newline_behind_it_is_the_same_secret():
    assert secret_key(SECRET.rstrip("=")) == secret_key(SECRET + "\n") == bytes(range(32))


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "whsec_",
        "secret",
        base64.b64encode(bytes(32)).decode(),
        "whsec_not base64!",
        "whsec_" + base64.b64encode(bytes(23)).decode(),
        "whsec_" + base64.b64encode(bytes(65)).decode(),
        "whsec_ééé",
    ],
)
def test_bad_secrets_are_refused_without_being_shown(secret):
    with pytest.raises(BadSecret) as caught:
        sign(secret, "m", 1, b"")
    assert "os.urandom" in str(caught.value)
    if len(secret) > 6:
        assert secret not in str(caught.value)


def test_the_cure_makes_a_good_secret():
    assert len(secret_key("whsec_" + base64.b64encode(os.urandom(32)).decode())) == 32
