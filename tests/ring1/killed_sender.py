"""Run by test_sender.py and killed with SIGKILL: closes calls as fast as it can, prints each committed one, and sends."""

from __future__ import annotations

from gevent import monkey

monkey.patch_all()

import sys  # noqa: E402
import uuid  # noqa: E402
from datetime import UTC, datetime  # noqa: E402

import gevent  # noqa: E402

from exoflow.calls.book import CallBook  # noqa: E402
from exoflow.calls.model import CallFacts, Leg  # noqa: E402
from exoflow.config.model import Account  # noqa: E402
from exoflow.crm.http import CrmClient  # noqa: E402
from exoflow.crm.sender import Sender  # noqa: E402
from exoflow.store import open_store  # noqa: E402

LONGEST_RUN = 20.0  # seconds; if the test itself dies, this ends too


def main(url: str, crm: str) -> None:
    account = Account.model_validate(
        {
            "name": "Acme",
            "flows": {"main": {"start": "bye", "steps": {"bye": {"hangup": {}}}}},
            "deliveries": {"url": crm, "secret": "whsec_" + "QUJD" * 8},
            "crm": {"allow_private": ["127.0.0.0/8"]},
        }
    )
    store = open_store(url)
    book = CallBook(store)
    sender = Sender(store, CrmClient(), {"acme": account}.get)
    book.wake = sender.wake
    sender.start()

    def one_call() -> None:
        facts = CallFacts(uuid.uuid4().hex, uuid.uuid4().hex, datetime.now(UTC), "PRI1", "2400", "1", account="acme")
        call = book.open(facts, account)
        call.note("A", "call.arrived", "arrived")
        call.add_leg(Leg(str(uuid.uuid4()), 1, "+919876543210", "PRI1"))
        gevent.sleep(0.003)
        call.note("H", "talk.ended", "ended")
        if call.close("answered"):
            print(call.id, flush=True)

    def caller() -> None:
        while True:
            one_call()

    gevent.joinall([gevent.spawn(caller) for _ in range(5)], timeout=LONGEST_RUN)


main(sys.argv[1], sys.argv[2])
