"""The demo CRM: its answers, what it records, and how it checks signatures."""

from __future__ import annotations

import base64
import json
import time
from datetime import UTC, datetime

import gevent
import pytest
import requests
from standardwebhooks.webhooks import Webhook

from exoflow.sim.crm import DemoCrm, Reply, signature_is_right

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()


def signed(body: bytes, *, at: float | None = None, secret: str = SECRET, identity: str = "msg_1") -> dict[str, str]:
    moment = time.time() if at is None else at
    signature = Webhook(secret).sign(identity, datetime.fromtimestamp(int(moment), UTC), body.decode())
    return {"webhook-id": identity, "webhook-timestamp": str(int(moment)), "webhook-signature": signature}


def test_it_answers_as_a_crm_would() -> None:
    with DemoCrm(agents=["+919876543210", "+919876543211"]) as crm:
        assert requests.get(crm.url("/passthru?key=K"), params={"CallSid": "c1"}, timeout=5).status_code == 200
        answer = requests.get(crm.url("/connect"), timeout=5).json()
        assert answer["destination"]["numbers"] == ["+919876543210", "+919876543211"]
        assert requests.get(crm.url("/agents"), timeout=5).text == "+919876543210,+919876543211"
        assert requests.get(crm.url("/nowhere"), timeout=5).status_code == 404
        (request,) = crm.to("/passthru")
        assert request.params == [("key", "K"), ("CallSid", "c1")]


def test_scripted_answers_come_in_order_and_the_last_stays() -> None:
    with DemoCrm() as crm:
        crm.script("/passthru", Reply(302, headers=[("Location", "/x")]), lambda request: Reply(503, request.path.encode()))
        statuses = [requests.get(crm.url("/passthru"), timeout=5, allow_redirects=False).status_code for _ in range(3)]
        assert statuses == [302, 503, 503]


def test_a_slow_answer_holds_up_nobody_else() -> None:
    with DemoCrm() as crm:
        crm.script("/passthru", Reply(delay=5))
        slow = gevent.spawn(requests.get, crm.url("/passthru"), timeout=10)
        assert crm.wait_for(lambda c: bool(c.to("/passthru")))
        began = time.monotonic()
        requests.get(crm.url("/agents"), timeout=5)
        assert time.monotonic() - began < 1
        slow.kill()


def test_deliveries_are_taken_when_the_signature_is_right() -> None:
    body = json.dumps({"type": "call.ended", "data": {"call": "c1"}}).encode()
    with DemoCrm(secret=SECRET) as crm:
        assert requests.post(crm.url("/deliveries"), data=body, headers=signed(body), timeout=5).status_code == 204
        assert requests.post(crm.url("/deliveries"), data=body + b" ", headers=signed(body), timeout=5).status_code == 401
        (good, bad) = crm.wait_for_deliveries(2)
        assert (good.signed, bad.signed) == (True, False)
        assert good.event["data"]["call"] == "c1"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"webhook-id": "x", "webhook-timestamp": "soon", "webhook-signature": "v1,x"},
        signed(b"{}", at=time.time() - 400),
        signed(b"{}", secret="whsec_" + base64.b64encode(bytes(32)).decode()),
        {**signed(b"{}"), "webhook-id": "msg_2"},
        {**signed(b"{}"), "webhook-signature": signed(b"{}")["webhook-signature"].replace("v1,", "v2,")},
    ],
    ids=["unsigned", "no timestamp", "too old", "another secret", "another id", "another version"],
)
def test_wrong_signatures(headers: dict[str, str]) -> None:
    assert not signature_is_right(SECRET, headers, b"{}")


def test_one_right_signature_of_several_is_enough() -> None:
    headers = signed(b"{}")
    headers["webhook-signature"] = "v1,AAAA " + headers["webhook-signature"]
    assert signature_is_right(SECRET, headers, b"{}")
