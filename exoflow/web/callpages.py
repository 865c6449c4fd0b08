"""The Calls API of Exotel's dialect as a WSGI application (docs/calls-api.md)."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeVar
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from gevent.lock import BoundedSemaphore
from sqlalchemy.engine import Connection

from exoflow.calls.links import Links
from exoflow.calls.model import CallState, Placed
from exoflow.config.model import Account, Number
from exoflow.errors import DeadlineExceeded, StoreError
from exoflow.flow.placing import NotPlaced
from exoflow.store.sqlite import Store
from exoflow.web.answers import RETRY, Form, Refusal, answered, form_of
from exoflow.web.callform import wanted
from exoflow.web.calllist import Page, TooLong, one, page
from exoflow.web.callquery import Cursor, Query, parameters, query, wants_details
from exoflow.web.callsheet import sheet
from exoflow.web.forms import fields_of
from exoflow.web.gate import Gate

log = logging.getLogger("exoflow.web")

T = TypeVar("T")

Place = Callable[[str, Account, Number, str, str | None, Placed], CallState]

NO_SUCH_ADDRESS = "there are /v1/Accounts/<sid>/Calls and /v1/Accounts/<sid>/Calls/<CallSid>, with .json or .xml"
READS = 2  # at once: half of the store's readers, so that calls always find one free
READ_SECONDS = 4.0  # waiting for one's turn and reading, each; the server's REQUEST_SECONDS ends both

_ID = "[A-Za-z0-9][A-Za-z0-9_-]{0,63}"
_CONNECT = re.compile(rf"/v1/Accounts/(?P<account>{_ID})/Calls/connect(?:\.(?P<form>json|xml))?")
_PATH = re.compile(rf"/v1/Accounts/(?P<account>{_ID})/Calls(?:/(?P<sid>{_ID}))?(?:\.(?P<form>json|xml))?")


class CallPages:
    """`clock`: aware time."""

    def __init__(
        self,
        store: Store,
        gate: Gate,
        place: Place | None = None,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        links: Links | None = None,
    ) -> None:
        """`place` rings whom a CRM wants called (Placing.place)."""
        self._store, self._gate, self._place, self._clock, self._links = store, gate, place, clock, links
        self._turn = BoundedSemaphore(READS)

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        return answered(environ, start_response, lambda path, method: self._answer(path, method, environ))

    def _answer(self, path: str, method: str, environ: dict[str, Any]) -> dict[str, Any]:
        if (connect := _CONNECT.fullmatch(path)) is not None:
            return self._connect(connect["account"], method, environ, form_of(path))
        asked = _PATH.fullmatch(path)
        if asked is None:
            raise Refusal(404, NO_SUCH_ADDRESS)
        account_id = asked["account"]
        account = self._gate.enter(account_id, environ.get("HTTP_AUTHORIZATION", ""))
        if method not in ("GET", "HEAD"):
            raise Refusal(405, "GET or HEAD", [("Allow", "GET, HEAD")])
        given = parameters(environ.get("QUERY_STRING", ""))
        if asked["sid"] is not None:
            return self._one(account, account_id, asked["sid"].lower(), given, form_of(path))
        wanted = query(given, zone=ZoneInfo(account.time_zone), now=self._clock())
        return self._list(account, account_id, wanted, path)

    def _connect(self, account_id: str, method: str, environ: dict[str, Any], form: Form) -> dict[str, Any]:
        """Places a call."""
        account = self._gate.enter(account_id, environ.get("HTTP_AUTHORIZATION", ""))
        if method != "POST":
            raise Refusal(405, "POST", [("Allow", "POST")])
        pairs = fields_of(environ)
        if self._place is None:
            raise Refusal(403, "no calls are placed here")
        asked = wanted(pairs, account, account_id)
        self._gate.may_place(account_id, account)
        try:
            call = self._place(account_id, account, asked.number, asked.first, asked.flow, asked.placed)
        except NotPlaced as error:
            raise Refusal(503, f"nobody was rung: {error}", RETRY) from None
        return {"Call": self._sheet(call, account, account_id, False, {}, form)}

    def _one(self, account: Account, account_id: str, sid: str, given: dict[str, str], form: Form) -> dict[str, Any]:
        details = wants_details(given)
        call = self._read(lambda connection: one(connection, account_id, sid))
        if call is None:
            raise Refusal(404, "the account has no such call")
        return {"Call": self._sheet(call, account, account_id, details, given, form)}

    def _list(self, account: Account, account_id: str, wanted: Query, path: str) -> dict[str, Any]:
        form = form_of(path)
        found: Page = self._read(lambda connection: page(connection, account_id, wanted))
        return {
            "Metadata": {
                "Total": found.total,
                "PageSize": wanted.size,
                "FirstPageUri": _uri(path, wanted, {}),
                "PrevPageUri": _uri(path, wanted, {"Before": found.previous}),
                "NextPageUri": _uri(path, wanted, {"After": found.next}),
            },
            "Calls": [self._sheet(call, account, account_id, wanted.details, wanted.given, form) for call in found.calls],
        }

    def _sheet(
        self, call: CallState, account: Account, account_id: str, details: bool, given: dict[str, str], form: Form
    ) -> dict[str, Any]:
        minutes = given.get("RecordingUrlValidity")
        validity = None if minutes is None else int(minutes)
        now = self._clock()
        return sheet(call, account, account_id, details=details, now=now, links=self._links, validity=validity, form=form)

    def _read(self, look: Callable[[Connection], T]) -> T:
        """Raises Refusal (503)."""
        if not self._turn.acquire(timeout=READ_SECONDS):
            raise Refusal(503, "the store is busy; try again", RETRY)
        try:
            return self._store.read(look, deadline=READ_SECONDS)
        except TooLong as error:
            raise Refusal(503, str(error), RETRY) from None
        except (StoreError, DeadlineExceeded) as error:
            log.error("the Calls API cannot read: %s", error)
            raise Refusal(503, "the store cannot be read just now; /readyz tells why", RETRY) from None
        finally:
            self._turn.release()


def _uri(path: str, wanted: Query, cursor: dict[str, Cursor | None]) -> str | None:
    """Another page's address; None if there is no such page."""
    if None in cursor.values():
        return None
    return "?".join(part for part in (path, urlencode({**wanted.given, **cursor})) if part)
