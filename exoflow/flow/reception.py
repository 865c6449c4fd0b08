"""A call arrives: whose it is, who calls, and which flow takes it; or why nobody can."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime

from exoflow.calls import arrival
from exoflow.calls.book import CallBook
from exoflow.calls.call import Call
from exoflow.calls.cdr import PLACED, CallEnd
from exoflow.calls.model import CallFacts
from exoflow.clock import utcnow
from exoflow.config.model import Account, Route
from exoflow.errors import CallEnded
from exoflow.esl.codec import Headers
from exoflow.esl.server import REFUSED_CAUSE, REFUSED_Q850
from exoflow.esl.session import CallSession
from exoflow.flow import engine, placed, recording
from exoflow.flow.editions import differs
from exoflow.flow.gone import GoneSession
from exoflow.flow.here import QUICK_SECONDS, Here, Parts
from exoflow.flow.progress import MARKER
from exoflow.lines.legs import moment

log = logging.getLogger("exoflow.flow")

UNKNOWN_NUMBER_CAUSE = "UNALLOCATED_NUMBER"  # 1: the exchange then says so to the caller


class Reception:
    """Takes each new session; returns when the call's record is closed or the call belongs to another process."""

    def __init__(self, parts: Callable[[str | None], Parts], book: CallBook) -> None:
        """`parts` of a configuration's hash; of None those that new calls go by."""
        self._parts, self._book = parts, book
        self._going_on: set[str] = set()  # ids of calls that came back, or whose caller has left

    def answer(self, session: CallSession) -> None:
        """The handler of the server. A call ends on the configuration it began with."""
        known = self._book.resume(session.uuid) if _came_back(session.channel) else None
        if known is not None:
            parts = self._parts(known.state.config)
            if placed.is_awaited(known.state):
                placed.begin(known, _moment(session.channel.get("Caller-Channel-Answered-Time")))
            self._go_on(parts, session, known)
            return
        if session.channel.variable(PLACED):
            log.error("a call that was placed has no record that can be read: channel %s is hung up", session.uuid)
            session.hang_up("NORMAL_TEMPORARY_FAILURE")
            return
        parts = self._parts(None)
        sent = _sent(session.channel, session.uuid)
        facts, routes = arrival.read(parts.config, sent)
        route = routes[0] if len(routes) == 1 else None
        call = self._book.open(facts, route.account if route is not None else None)
        call.state.config = parts.config.kept.hash
        arrival.note(call, sent)
        if route is None:
            _turn_away(session, call, routes)
            return
        with suppress(CallEnded):  # gone at once: the flow's steps that need no caller still run
            call.on_disk()  # before the mark: a marked call that no record knows would be a ghost after a kill
            session.execute("set", f"exo_call={facts.id}", deadline=QUICK_SECONDS)
            if session.channel.variable(MARKER):  # of an earlier record, which was closed
                session.execute("unset", MARKER, deadline=QUICK_SECONDS)
            # by the switch's clock, as the answer's time: it runs some 20 ms behind ours
            call.ringing(moment(session.execute("ring_ready", deadline=QUICK_SECONDS)))
        _run(_here(parts, session, call, route.account_id, route.account))

    def refuse(self, session: CallSession) -> None:
        """A call above the process's limit, which the server has hung up: it has its record all the same."""
        parts = self._parts(None)
        call = self._book.resume(session.uuid) if session.channel.variable(PLACED) else None
        if call is None:
            sent = _sent(session.channel, session.uuid)
            facts, routes = arrival.read(parts.config, sent)
            call = self._book.open(facts, routes[0].account if len(routes) == 1 else None)
            call.state.config = parts.config.kept.hash
            arrival.note(call, sent)
        most = parts.config.switch.max_calls
        text = f"Refused: {most} calls at once are the limit of this process; raise switch.max_calls if the machine bears more"
        call.note("B", "calls.limit", text)
        call.caller_gone(None, REFUSED_CAUSE, REFUSED_Q850, "exoflow")
        call.close("refused", "calls.limit")

    def finish(self, call: Call, end: CallEnd) -> None:
        """The caller has left while no app had the call: what had been done meanwhile counts, the steps that need no caller are
        done, and the record closes with its delivery.

        Does nothing if the call is closed, or is being gone on with.
        """
        if call.closed:
            return
        if placed.is_awaited(call.state) and end.answered_at is None:
            placed.not_reached(call, end.cause, end.q850, end.ended_at)
            return
        if end.fallback:
            call.wants_agent()  # he did not get what he called for: somebody has to call back
        self._go_on(self._parts(call.state.config), GoneSession(end), call)

    def _go_on(self, parts: Parts, session: CallSession | GoneSession, call: Call) -> None:
        """The call was ours before: its socket or its process had died."""
        if call.id in self._going_on:
            log.warning("call %s comes back while it is being gone on with: its dialplan tries again", call.id)
            return
        self._going_on.add(call.id)
        try:
            self._go_on_with(parts, session, call)
        finally:
            self._going_on.discard(call.id)

    def _go_on_with(self, parts: Parts, session: CallSession | GoneSession, call: Call) -> None:
        state = call.state
        if differs(state, parts):
            state.config = parts.config.kept.hash
            text = "The configuration that the call began with is no longer to be had: it goes on with the present one"
            call.note("C", "config.gone", text)
        account = call.account = parts.config.accounts.get(state.facts.account or "")
        if state.facts.account is None:
            routes = parts.config.candidates(state.facts.dialled_raw, state.facts.trunk)
            _turn_away(session, call, routes if len(routes) > 1 else [])
            return
        if account is None or _entry(state.facts, account) is None:
            _flow_gone(session, call)
            return
        here = _here(parts, session, call, state.facts.account, account)
        if state.facts.placed is None or session.channel.variable("exo_entry") != "1":
            here.restore()
            recording.check_left(here)
        _run(here)


def _run(here: Here) -> None:
    """The caller's own phone is in use meanwhile: an agent who rings us is not rung."""
    channel, state = here.session.uuid, here.call.state
    with (
        here.parts.staff.claims.calling(state.facts.caller, channel, here.call.id, lambda: here.caller_gone),
        placed.limited(state, here.parts.lines),
    ):
        engine.run(here)


def _came_back(channel: Headers) -> bool:
    """Had exoflow this call before? The dialplan counts its rounds (dialplan/from-pri/30-app.xml), so that a call whose
    app died before it could mark the channel is known, too."""
    return bool(channel.variable("exo_call")) or channel.variable("exo_entry") not in ("", "1")


def _here(parts: Parts, session: CallSession | GoneSession, call: Call, account_id: str, account: Account) -> Here:
    facts = call.state.facts
    return Here(parts, session, call, account_id, placed.account_of(account, facts.placed), _entry(facts, account) or "")


def _flow_gone(session: CallSession | GoneSession, call: Call) -> None:
    call.note("C", "flow.gone", "The call came back and its flow is no longer in the configuration")
    session.hang_up("NORMAL_TEMPORARY_FAILURE")
    call.close("lost", "flow.gone")


def _entry(facts: CallFacts, account: Account) -> str | None:
    """The flow that answers a call, as it is run for the number that was dialled; None if there is none any more."""
    if (made := placed.entry(facts.placed)) is not None:
        return made if placed.account_of(account, facts.placed) is not account else None
    name = next((n.entry for n in account.numbers if (n.number, n.flow) == (facts.dialled, facts.flow)), facts.flow)
    return name if name in account.flows else None


def _sent(channel: Headers, channel_uuid: str) -> arrival.Sent:
    return arrival.Sent(
        channel=channel_uuid,
        created_at=_created(channel),
        trunk=channel.variable("exo_trunk"),
        dialled=channel.variable("exo_did") or channel.get("Caller-Destination-Number"),
        caller=channel.get("Caller-Caller-ID-Number"),
        hidden=channel.get("Caller-Privacy-Hide-Number") == "true",
        diverted_from=channel.variable("exo_diverted_from"),
        caller_context=channel.variable("exo_caller_context"),
        **arrival.types(channel.variable),
    )


def _created(channel: Headers) -> datetime:
    """When the SETUP came in, by the switch's clock."""
    return _moment(channel.get("Caller-Channel-Created-Time"))


def _moment(text: str) -> datetime:
    return datetime.fromtimestamp(int(text) / 1e6, UTC) if text.isascii() and text.isdigit() else utcnow()


def _turn_away(session: CallSession | GoneSession, call: Call, routes: list[Route]) -> None:
    """Nobody's number, or more than one's: the exchange hears 1."""
    facts = call.state.facts
    if routes:
        names = ", ".join(f"{route.number.number} of {route.account_id}" for route in routes)
        code = "number.ambiguous"
        text = f"{facts.dialled_raw} may be {names}: give each its `dnis`, the digits that the exchange sends"
    else:
        code = "number.unknown"
        text = (
            f"{facts.dialled_raw} on {facts.trunk} is in no account: add it under `numbers`, "
            "with `dnis` if the exchange sends less digits"
        )
    call.note("B", code, text)
    log.warning("call %s turned away: %s", facts.id, text)
    with suppress(CallEnded):
        session.execute("set", "exo_refused=number", deadline=QUICK_SECONDS)
        session.hang_up(UNKNOWN_NUMBER_CAUSE)
    call.caller_gone(None, session.cause or UNKNOWN_NUMBER_CAUSE, session.q850 or 1, "exoflow")
    call.close("refused", code)
