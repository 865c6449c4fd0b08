"""A hall whose account may place calls, and a CRM that does so over HTTP."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from callsapi import KEY, TOKEN, TOKEN_HASH, exchange
from hall import BYE, CALLER, OURS, Hall, Steps, eventually, say

from exoflow.calls.model import CallState
from exoflow.sim import Phone

FIRST, SECOND = CALLER, "+919876543210"  # who is rung first, and then
BASIC = b64encode(f"{KEY}:{TOKEN}".encode()).decode()
API = {"keys": [{"key": KEY, "token_hash": TOKEN_HASH}], "place_calls": True}
STEPS: Steps = {"hello": say("Hello."), "bye": BYE}


class PlacingHall(Hall):
    """`place` asks for a call as a CRM does, `placed` is what came of it."""

    def opened(self, steps: Steps = STEPS, *, api: Mapping[str, Any] = API, **more: Any) -> PlacingHall:
        account = {"api": api, **more.pop("account", {})}
        self.start(steps, account=account, main={"web": {"listen": "127.0.0.1:0"}}, **more)
        return self

    @property
    def web(self) -> tuple[str, int]:
        assert self.service.web is not None
        assert self.service.web.address is not None
        return self.service.web.address

    def asked(self, path: str, form: Mapping[str, str] | None = None) -> tuple[int, Any]:
        """Status and JSON of a GET, or of a POST with a form."""
        body = urlencode(form or {}).encode()
        method = "GET" if form is None else "POST"
        head = f"{method} /v1/Accounts/acme/{path} HTTP/1.1\r\nHost: x\r\nAuthorization: Basic {BASIC}\r\n"
        if form is not None:
            head += f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(body)}\r\n"
        status, _, answer = exchange(self.web, f"{head}\r\n".encode() + body)
        return status, json.loads(answer)

    def place(self, **form: str) -> dict[str, Any]:
        """Two numbers unless the form says otherwise; the answer's Call."""
        fields = {"From": FIRST, "CallerId": OURS, **({} if "Url" in form else {"To": SECOND}), **form}
        status, answer = self.asked("Calls/connect.json", fields)
        assert status == 200, answer
        call: dict[str, Any] = answer["Call"]
        return call

    def phone(self, sid: str) -> Phone:
        """The telephone of who was rung first."""
        channel = next(state.facts.channel for state in self.states.values() if state.facts.id == sid)
        eventually(lambda: any(phone.uuid == channel for phone in self.switch.phones))
        return next(phone for phone in self.switch.phones if phone.uuid == channel)

    def closed(self, sid: str) -> CallState:
        """Its record, closed and on disk."""
        found: list[CallState] = []

        def over() -> bool:
            state = None if sid in self.service.book.live else self.service.book.get(sid)
            found[:] = [state] if state is not None and state.outcome is not None else []
            return bool(found)

        eventually(over)
        return found[0]
