"""What of URLs and answers is shown: never a secret."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exoflow.characters import one_line
from exoflow.crm.mask import MAX_URL_CHARS, excerpt, is_secret_key, mask_url


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://crm.example/p?key=K&a=1", "https://crm.example/p?key=***&a=1"),
        ("https://user:pw@crm.example/p", "https://***@crm.example/p"),
        ("https://a@b:c@crm.example/p", "https://***@crm.example/p"),
        ("https://crm.example/p?api%5Fkey=K", "https://crm.example/p?api%5Fkey=***"),
        ("https://crm.example/?access_token=T&X-Signature=S", "https://crm.example/?access_token=***&X-Signature=***"),
        ("https://crm.example/?a=b#token=T", "https://crm.example/?a=b"),
        ("https://crm.example/?key", "https://crm.example/?key"),
        ("https://crm.example/?key=&b=2", "https://crm.example/?key=&b=2"),
        ("https://crm.example/?a=1?key=2", "https://crm.example/?a=1?key=2"),
        ("//user:pw@h/", "//***@h/"),
        ("\x1b[31m", "\\x1b[31m"),
    ],
)
def test_urls(url, shown):
    assert mask_url(url) == shown


def test_the_accounts_own_keys():
    assert mask_url("http://h/?Shop=7&x=1", ["shop"]) == "http://h/?Shop=***&x=1"


HOOK = "3qf9XkLm2pRt7vYzB4nC6dWs"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (f"https://chat.example/services/T00000000/B00000000/{HOOK}", "https://chat.example/services/T00000000/B00000000/***"),
        (f"https://api.example/bot110201543:{HOOK}/sendMessage", "https://api.example/***/sendMessage"),
        (f"https://h.example/api/webhooks/123456789/{HOOK[:9]}-{HOOK[9:]}_x", "https://h.example/api/webhooks/123456789/***"),
        ("https://h.example/hook/7b9c1f2e-0d4a-4c1e-9f3b-5a6d7e8f9a0b", "https://h.example/hook/***"),
        ("https://h.example/services/T0/B0/PATHSECRET1?a=1", "https://h.example/services/T0/B0/***?a=1"),
        ("https://h.example/%33qf9XkLm2pRt7vYzB4nC6dWs", "https://h.example/***"),
        # words, versions and numbers stay
        ("https://crm.example/exotel/passthru", "https://crm.example/exotel/passthru"),
        ("https://crm.example/v2_beta/call-back-2/step3.php", "https://crm.example/v2_beta/call-back-2/step3.php"),
        ("https://crm.example/accounts/918030752400/incoming_call", "https://crm.example/accounts/918030752400/incoming_call"),
        ("https://crm.example/customer-callback-endpoint-v2", "https://crm.example/customer-callback-endpoint-v2"),
        ("/services/T0/B0/PATHSECRET1", "/services/T0/B0/***"),
    ],
)
def test_part_of_a_path_that_is_a_token_is_masked(url, shown):
    assert mask_url(url) == shown


def test_path_behind_a_prefix_of_the_account_is_masked_whole():
    assert mask_url("https://h.example/hook/mine/abc?x=1", ["/hook/"]) == "https://h.example/hook/***?x=1"
    assert mask_url("https://h.example/other/mine", ["/hook/"]) == "https://h.example/other/mine"
    assert excerpt(b"no such hook: mine/abc", "https://h.example/hook/mine/abc", ["/hook/"]) == "no such hook: ***"


def test_token_of_a_path_is_masked_in_answers():
    assert excerpt(f"{HOOK} is revoked".encode(), f"https://h.example/services/{HOOK}") == "*** is revoked"


# fmt: off
SECRET_KEYS = (
    "key", "apiKey", "api_key", "API-KEY", "token", "accessToken", "secret", "password", "passwd", "pwd", "auth",
    "sig", "signature", "pin",
)
# fmt: on


@pytest.mark.parametrize("key", SECRET_KEYS)
def test_secret_keys(key):
    assert is_secret_key(key)


# fmt: off
OPEN_KEYS = (
    "CallSid", "CallFrom", "Direction", "DialWhomNumber", "monkey", "keyboard", "assigned", "author", "design",
    "digits", "Legs[0][CauseCode]",
)
# fmt: on


@pytest.mark.parametrize("key", OPEN_KEYS)
def test_open_keys(key):
    assert not is_secret_key(key)


@given(st.text())
def test_no_text_breaks_it(text):
    assert len(mask_url(text)) <= max(MAX_URL_CHARS, 1) * 10
    assert mask_url(f"http://h/?key=SECRET{MAX_URL_CHARS}&x={text}").count("SECRET") == text.split("#")[0].count("SECRET")


@given(st.binary(), st.text())
def test_no_answer_breaks_it(body, url):
    assert one_line(excerpt(body, url)) == excerpt(body, url)


def test_a_secret_at_the_cut_is_masked_whole():
    shown = excerpt(b"x" * 195 + b"SECRETSECRET", "http://h/?key=SECRETSECRET")
    assert "SEC" not in shown


def test_a_secret_is_masked_as_written_and_as_read():
    url = "http://user:pass%2Fword@h/?token=a%20b%20c"
    assert excerpt(b"you sent a b c and a%20b%20c and pass%2Fword", url) == "you sent *** and *** and ***"


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        (b'{"api_key": "K1", "n": 1}', '{"api_key": "***", "n": 1}'),
        (b"password=hunter2&user=me", "password=***&user=me"),
        (b"09999999903,09999999904", "09999999903,09999999904"),
        (b"\xff\xfe", "��"),
    ],
)
def test_answers(body, shown):
    assert excerpt(body) == shown
