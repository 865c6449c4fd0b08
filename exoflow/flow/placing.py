"""Places calls: the record is on disk, then FreeSWITCH rings the first number; when it answers, we get the call."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import takewhile

import gevent
from gevent.event import AsyncResult

from exoflow.agents.claims import Claims
from exoflow.calls.book import CallBook
from exoflow.calls.call import Call
from exoflow.calls.model import CallFacts, CallState, Placed
from exoflow.config.model import Account, Config, Number, Trunk
from exoflow.errors import CommandRefused, DeadlineExceeded, Disconnected, ExoflowError, UnsafeText
from exoflow.flow import placed
from exoflow.flow.variables import REFUSED
from exoflow.lines import dialling, trunks
from exoflow.lines.legs import LegEvents
from exoflow.lines.lines import Lines
from exoflow.telephony.dialstring import leg_string

log = logging.getLogger("exoflow.flow")

COMMIT_SECONDS = 3.0  # for its record, while the CRM waits: web/server.py's REQUEST_SECONDS end that
END_SECONDS = 10.0  # beyond the ringing, for `originate` to tell its end; FreeSWITCH looks at its limits once a second
RELEASE_SECONDS = 1.0  # from that to the leg's own end, which has the cause's number; it comes within milliseconds


class NotPlaced(ExoflowError):
    """Nobody was rung; the message says why. Another try, later, may do."""


@dataclass(slots=True)
class _Ringing:
    """Nobody has answered yet."""

    trunk: str
    second: bool  # will another number be rung, over another channel?
    events: LegEvents | None = None

    @property
    def channels(self) -> int:
        """Those it will take beside what the switch has told of."""
        return (self.events is None or self.events.setup_at is None) + self.second


class Placing:
    """One for the process."""

    def __init__(
        self, book: CallBook, lines: Lines, claims: Claims, config: Callable[[], Config], room: Callable[[], int]
    ) -> None:
        """`room`: how many further calls this process may take."""
        self._book, self._lines, self._claims, self._config, self._room = book, lines, claims, config, room
        self._ringing: dict[str, _Ringing] = {}  # by channel

    def place(
        self,
        account_id: str,
        account: Account,
        number: Number,
        first: str,
        flow: str | None,
        asked: Placed,
        *,
        call_id: str | None = None,
    ) -> CallState:
        """Rings `first` (E.164), who sees `number`, one of the account's; then the flow of that name takes the call, or None:
        `asked.to` is rung. Returns as soon as FreeSWITCH has been told. `call_id`: the call's, if it has one already.

        Raises NotPlaced, UnsafeText.
        """
        config = self._config()
        trunk = config.trunks[number.trunk]
        facts = CallFacts(
            id=call_id or uuid.uuid4().hex,
            channel=str(uuid.uuid4()),
            created_at=self._book.clock(),
            trunk=number.trunk,
            dialled_raw=number.number.removeprefix("+"),
            caller_raw=first.removeprefix("+"),
            dialled=number.number,
            caller=first,
            account=account_id,
            flow=flow,
            placed=asked,
        )
        dial_string = _dial_string(facts, asked, trunk)
        # counted before the first wait, for many may be placed at once
        self._ringing[facts.channel] = _Ringing(number.trunk, asked.to is not None or asked.call_back is not None)
        try:
            self._look(facts, trunk)
            call = self._opened(facts, account, config)
        except BaseException:
            del self._ringing[facts.channel]
            raise
        gevent.spawn(self._ring, call, dial_string, asked.ring)
        return call.state

    # --- may it? --------------------------------------------------------------------------------

    def _look(self, facts: CallFacts, trunk: Trunk) -> None:
        """Is there room for it, beside those that were placed before it and still ring?"""
        before = list(takewhile(lambda one: one is not self._ringing[facts.channel], self._ringing.values()))
        if len(before) >= self._room():
            raise NotPlaced("exoflow has as many calls as it may have (switch.max_calls)")
        waiting = [one for one in before if one.trunk == facts.trunk]
        wanted = sum(one.channels for one in waiting) + self._ringing[facts.channel].channels
        if self._lines.busy(facts.trunk) + wanted > trunk.channels:
            raise NotPlaced(f"trunk {facts.trunk} has no channel free")
        try:
            why = self._lines.no_room(str(trunk.span or trunk.gateway), len(waiting))
        except (Disconnected, DeadlineExceeded) as error:
            log.error("no call can be placed: %s", error)
            raise NotPlaced("FreeSWITCH cannot be told to dial just now; /readyz tells why") from None
        if why:
            raise NotPlaced(why)

    def _opened(self, facts: CallFacts, account: Account, config: Config) -> Call:
        """Its record, on disk: when it is answered, or ends, another process may be there."""
        call = self._book.open(facts, account)
        call.state.config = config.kept.hash
        asked = facts.placed
        assert asked is not None
        who, then = "Placed by the Calls API", f"then flow {facts.flow}" if asked.to is None else f"then {asked.to}"
        if asked.call_back is not None:
            who, then = "Called back", f"then step {asked.call_back.step} of {asked.call_back.flow}"
        text = f"{who}: {facts.caller} is rung over {facts.trunk} and sees {facts.dialled}, {then}"
        call.note("A", "call.placed", text, at=facts.created_at, custom_field=asked.custom_field or None)
        if asked.call_back is not None and not asked.call_back.recorded:
            call.note("C", REFUSED, "Not to be recorded: he refused it in the call in which he asked to be called back")
        if not call.on_disk(COMMIT_SECONDS):
            call.close("refused", "call.placed")
            raise NotPlaced("the store cannot keep the call's record just now; /readyz tells why")
        return call

    # --- the ringing ----------------------------------------------------------------------------

    def _ring(self, call: Call, dial_string: str, seconds: int) -> None:
        facts = call.state.facts
        try:
            if not self._claims.claim(facts.caller or "", facts.channel, facts.id, _lines_of(call)):
                placed.engaged(call)
                return
            with (
                self._claims.attempted([facts.channel], lambda: self._lines.up),
                self._lines.leg(facts.channel, lambda events: _heard(call, events)) as events,
            ):
                self._ringing[facts.channel].events = events
                self._originate(call, dial_string, seconds, events)
        except Disconnected as error:
            # it may be ringing: it comes to us when it is answered, and its CDR tells of another end
            log.warning("call %s: what becomes of its ringing is not heard: %s", facts.id, error)
        except ExoflowError as error:
            log.error("call %s could not be placed: %s", facts.id, error)
            placed.not_reached(call, "NORMAL_TEMPORARY_FAILURE", had_leg=False)
        finally:
            del self._ringing[facts.channel]

    def _originate(self, call: Call, dial_string: str, seconds: int, events: LegEvents) -> None:
        facts = call.state.facts
        with self._told_to(dial_string, facts) as job:
            job.wait(seconds + END_SECONDS)
            if not job.ready():
                self._lines.kill(facts.channel, "RECOVERY_ON_TIMER_EXPIRE")
                job.wait(RELEASE_SECONDS)
            printed: str = job.get() if job.ready() else ""
            if job.ready():
                made = dialling.answered(printed) or events.setup_at is not None
                self._claims.done(facts.channel, made=made)
        if dialling.answered(printed):
            return
        if events.setup_at is not None:
            events.released.wait(RELEASE_SECONDS)
        cause = events.cause or dialling.cause_of(printed) or "RECOVERY_ON_TIMER_EXPIRE"
        announced = events.early_media_at is not None
        placed.not_reached(
            call, cause, events.q850, events.released_at, had_leg=events.setup_at is not None, announced=announced
        )

    @contextmanager
    def _told_to(self, dial_string: str, facts: CallFacts) -> Iterator[AsyncResult]:
        """As Lines.originate, which the claim is to know of before the switch does."""
        self._claims.told([facts.channel])
        try:
            with self._lines.originate(dial_string, facts.dialled_raw, facts.channel) as job:
                yield job
        except (CommandRefused, UnsafeText):
            self._claims.done(facts.channel, made=False)
            raise


def _lines_of(call: Call) -> int:
    """Calls at once that the first number takes, if it is an agent's."""
    agents = {} if call.account is None else call.account.agents
    return next((agent.lines for agent in agents.values() if agent.number == call.state.facts.caller), 1)


def _heard(call: Call, events: LegEvents) -> None:
    if events.alerting_at is not None and call.state.ring_at is None and not call.closed:
        call.ringing(events.alerting_at)


def _dial_string(facts: CallFacts, asked: Placed, trunk: Trunk) -> str:
    """Raises UnsafeText."""
    assert facts.caller is not None
    assert facts.dialled is not None
    return leg_string(
        endpoint=trunks.endpoint(trunk),
        e164=facts.caller,
        leg_uuid=facts.channel,
        cli=trunks.cli(facts.dialled),
        ring_seconds=asked.ring,
        talk_seconds=asked.limit,
        extra={"exo_placed": "true", "exo_call": facts.id, "exo_trunk": str(trunk.span or trunk.gateway)},
    )
