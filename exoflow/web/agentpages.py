"""An account's agents over HTTP: how each stands, and switching him on and off (docs/agents.md), as a WSGI application.

Source: exotel-dialect.md, section 5, "Users": `available` is `true` or `false`. That an agent has one device, the addresses and
the names of what is shown are ours.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any
from zoneinfo import ZoneInfo

import gevent

from exoflow.agents.showing import Shown, one_now
from exoflow.agents.staff import Staff
from exoflow.config.model import Account
from exoflow.errors import StoreError
from exoflow.telephony.numbers import national
from exoflow.web.answers import RETRY, Refusal, answered, local_time
from exoflow.web.forms import Pairs, fields_of
from exoflow.web.gate import Gate

DISK_SECONDS = 1.5  # for the commit, some ms on a healthy disk; behind gate.CHECK_SECONDS within the server's REQUEST_SECONDS
AT_ONCE = 50  # agents of a list between two turns of the loop: some ms, also where each is in many groups
AVAILABLE = {"true": True, "false": False}
READING = [("Allow", "GET, HEAD")]
SWITCHING = [("Allow", "GET, HEAD, POST, PUT")]

# what stands behind Agents/ is somebody's name or nobody's: the account tells
_PATH = re.compile(r"/v1/Accounts/(?P<account>[A-Za-z0-9][A-Za-z0-9_-]{0,63})/Agents(?P<rest>(?:[./].*)?)", re.DOTALL)
_REST = re.compile(r"(?:/(?P<name>[^/]+?))?(?:\.(?P<form>json|xml))?", re.DOTALL)


def is_agents(path: str) -> bool:
    """Is this address about agents?"""
    return _PATH.fullmatch(path) is not None


class AgentPages:
    """Asks the staff in memory, so that it shows what the next call would meet; only a switch waits for the store."""

    def __init__(self, gate: Gate, staff: Staff) -> None:
        self._gate, self._staff = gate, staff

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        return answered(environ, start_response, lambda path, method: self._answer(path, method, environ))

    def _answer(self, path: str, method: str, environ: dict[str, Any]) -> dict[str, Any]:
        asked = _PATH.fullmatch(path)
        assert asked is not None, "routes.routed asks is_agents"
        account_id = asked["account"]
        account = self._gate.enter(account_id, environ.get("HTTP_AUTHORIZATION", ""))
        rest = _REST.fullmatch(asked["rest"])
        if rest is None:
            raise Refusal(404, "there are /v1/Accounts/<sid>/Agents and /v1/Accounts/<sid>/Agents/<name>, with .json or .xml")
        if rest["name"] is None:
            if method not in ("GET", "HEAD"):
                raise Refusal(405, "GET or HEAD", READING)
            return {"Agents": list(self._all(account_id, account))}
        name = _name(rest["name"])
        if name not in account.agents:
            raise Refusal(404, "the account has no such agent; the list has their names")
        if method in ("POST", "PUT"):
            self._switch(account_id, name, _available(fields_of(environ)))
        elif method not in ("GET", "HEAD"):
            raise Refusal(405, "GET, HEAD, POST or PUT", SWITCHING)
        return {"Agent": self._sheet(account_id, account, name)}

    def _switch(self, account_id: str, name: str, available: bool) -> None:
        """On disk when it returns. Raises Refusal (503): it counts in memory, and a restart may forget it."""
        try:
            written = self._staff.switch(account_id, name, available, "api")
            written.wait(DISK_SECONDS)
            on_disk = written.ready() and written.successful()
        except StoreError:  # it is being closed
            on_disk = False
        if not on_disk:
            now = "takes calls" if available else "takes no more calls"
            cure = "the store cannot be written just now; /readyz tells why. Send it again"
            raise Refusal(503, f"the agent {now}, but a restart may forget it: {cure}", RETRY)

    def _all(self, account_id: str, account: Account) -> Iterator[dict[str, Any]]:
        for at, name in enumerate(account.agents):
            if at % AT_ONCE == AT_ONCE - 1:
                gevent.sleep(0)  # calls come first
            yield self._sheet(account_id, account, name)

    def _sheet(self, account_id: str, account: Account, name: str) -> dict[str, Any]:
        return _sheet(one_now(self._staff, account_id, account, name), ZoneInfo(account.time_zone))


def _sheet(one: Shown, zone: ZoneInfo) -> dict[str, Any]:
    """The value of `Agent`. Times as in the Calls API: the account's, without a zone."""
    return {
        "Name": one.name,
        "FullName": one.agent.name,
        "Email": one.agent.email,
        "Number": national(one.agent.number),
        "Lines": one.agent.lines,
        "Groups": one.groups,
        "Available": one.state is None or one.state.available,
        "DateUpdated": None if one.state is None else local_time(one.state.changed_at, zone),
        "UpdatedBy": None if one.state is None else one.state.changed_by,
        "State": one.why or "free",
        "PausedBy": one.by_groups,
        "CallSid": one.call,
        "LastTalkEnd": None if one.freed_at is None else local_time(one.freed_at, zone),
    }


def _name(text: str) -> str:
    """Names may be of any script; WSGI gives their UTF-8 as Latin-1 (PEP 3333). Raises Refusal (404)."""
    try:
        return text.encode("latin-1").decode()
    except UnicodeError:
        raise Refusal(404, "the account has no such agent; names are url-encoded UTF-8") from None


def _available(pairs: Pairs) -> bool:
    """Raises Refusal (400)."""
    given = [value.strip() for name, value in pairs if name == "available"]
    if len(given) > 1:
        raise Refusal(400, "available: is given twice")
    if not given or given[0] not in AVAILABLE:
        raise Refusal(400, "available: true or false")
    return AVAILABLE[given[0]]
