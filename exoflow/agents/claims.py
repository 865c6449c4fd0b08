"""Which telephones are engaged by us: a number is claimed before it is rung, whoever named it, so that no two calls ring it.

Memory decides and nothing is waited for: the store and the switch only help to know again, after a death, what was known
before. A claim bears the uuid of the leg it is for, which the switch gives the leg (`origination_uuid`): it lives as long as
that leg lives on FreeSWITCH, under whichever exoflow, and ends with the leg's CHANNEL_HANGUP_COMPLETE, with an attempt that
made no leg, or when looks at the switch prove that it is gone or can never be (agents/watch.py).
That the switch shows no leg proves nothing while the command that rings it may still wait there.

Held are also the numbers of those who call us, for their phone is in use, and of legs that the switch dialled by itself
(dialplan/fallback).
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from exoflow.errors import ExoflowError
from exoflow.esl.codec import Event
from exoflow.telephony.numbers import to_e164

MANY_LATELY = 1000  # channels whose end was heard: an event of theirs that comes later is no new leg
# an absence counts when it lasts so long: the switch's list lags behind a leg's beginning, more on a full CPU
ABSENT_SECONDS = 2.0
# a leg that no caller's channel dials (`originate`) has a thread of its own in the switch, which begins at once; a full CPU
# makes seconds of that
UNBORN_SECONDS = 60.0


@dataclass(slots=True)
class Claim:
    """One use of a telephone."""

    number: str  # E.164
    channel: str  # the leg's uuid, or the caller's
    call: str  # id of the call that rings it; empty: none of ours
    since: float  # by the claims' clock
    owned: bool = False  # does somebody see to its end? If not, looks at the switch do
    seen: bool = False  # was the channel on the switch?
    calls_us: bool = False  # its owner rings us, not we him
    dialler: str = ""  # the caller's channel, in whose thread the leg is dialled; empty: it has one of its own
    told: bool = False  # the switch may have a command that rings it, whose end we do not know
    absent_since: float | None = None  # the switch shows neither it nor what could make it


class Claims:
    """All claims of this process. Only `hear` and the methods here change them; none of them waits."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.let_go: Callable[[str], None] = lambda number: None  # told of a number that is engaged once less
        self.found_over = 0  # claims that only a look at the switch ended: events are missing when it grows
        self._by_channel: dict[str, Claim] = {}
        self._by_number: dict[str, list[Claim]] = {}
        self._over: deque[str] = deque(maxlen=MANY_LATELY)

    # --- what is asked ----------------------------------------------------------------------------

    def holders(self, number: str) -> Sequence[Claim]:
        """The uses of a telephone that are known, oldest first."""
        return self._by_number.get(number, ())

    def of(self, channel: str) -> Claim | None:
        return self._by_channel.get(channel)

    def calls_of(self, caller: str | None) -> list[str]:
        """Ids of the calls that come from this number just now."""
        return [] if caller is None else [claim.call for claim in self.holders(caller) if claim.calls_us]

    @property
    def unowned(self) -> list[Claim]:
        """Those that a look at the switch must end."""
        return [claim for claim in self._by_channel.values() if not claim.owned]

    def __len__(self) -> int:
        return len(self._by_channel)

    # --- claiming -------------------------------------------------------------------------------

    def claim(self, number: str, leg: str, call: str, lines: int = 1, *, dialler: str = "") -> bool:
        """Takes a telephone for a leg that is about to be dialled, by `dialler`'s channel or by itself; False if it is
        engaged: `lines` calls are on it already.

        A leg that has its claim (its call came back) keeps it.
        """
        known = self._by_channel.get(leg)
        if known is not None:
            known.owned, known.dialler = True, dialler or known.dialler
            return True
        if len(self.holders(number)) >= lines:
            return False
        self._put(Claim(number, leg, call, self.clock(), owned=True, dialler=dialler))
        return True

    def hold(self, number: str, channel: str, call: str = "", *, seen: bool = True, calls_us: bool = False) -> Claim:
        """Notes that a telephone is in use; more than once changes nothing."""
        known = self._by_channel.get(channel)
        if known is None:
            known = Claim(number, channel, call, self.clock(), seen=seen, calls_us=calls_us)
            self._put(known)
        known.seen = known.seen or seen
        return known

    def recall(self, number: str, channel: str, call: str, *, seen: bool, calls_us: bool = False, dialler: str = "") -> None:
        """A use that an earlier process has noted; nothing if its end was heard here. If its leg was not seen, the switch may
        have the command of that process."""
        if channel not in self._over:
            claim = self.hold(number, channel, call, seen=seen, calls_us=calls_us)
            claim.dialler = claim.dialler or dialler
            claim.told = not claim.seen

    def release(self, channel: str) -> None:
        """The channel is over, or was never made."""
        claim = self._by_channel.pop(channel, None)
        if claim is None:
            return
        left = [one for one in self._by_number[claim.number] if one is not claim]
        if left:
            self._by_number[claim.number] = left
        else:
            del self._by_number[claim.number]
        self.let_go(claim.number)

    def told(self, legs: Sequence[str]) -> None:
        """The switch is about to be told to ring these."""
        for claim in self._of(legs):
            claim.told = True

    def done(self, leg: str, *, made: bool) -> None:
        """The command that rings this leg has run to its end, or never will. `made`: it shows that there was a leg."""
        for claim in self._of([leg]):
            claim.told, claim.seen = False, claim.seen or made

    @contextmanager
    def attempted(self, legs: Sequence[str], switch_tells: Callable[[], bool]) -> Iterator[None]:
        """Around an attempt on claimed legs, which owns the claims. After it they go, unless the leg's end
        is still to be heard: the leg was seen on the switch, or the command that rings it may still wait
        there. Then looks see to the claim, too.

        `switch_tells`: are channels' events heard? Without them the attempt's own end is all there is.
        """
        settled = False
        try:
            yield
            settled = True
        except ExoflowError as error:
            settled = not error.connection_gone  # the caller has left: the switch ends the attempt
            raise
        finally:
            for claim in self._of(legs):
                claim.owned = False
                # an attempt whose socket was lost goes on at the switch, and comes back
                if settled and not ((claim.seen or claim.told) and switch_tells()):
                    self.release(claim.channel)

    @contextmanager
    def calling(self, number: str | None, channel: str, call: str, over: Callable[[], bool]) -> Iterator[None]:
        """Around a call of somebody: his own phone is in use as long as it lives, also when it leaves this process."""
        if number is None:
            yield
            return
        claim = self.hold(number, channel, call, calls_us=True)
        claim.owned = True
        try:
            yield
        finally:
            claim.owned = False
            if over():
                self.release(channel)

    # --- what the switch tells ----------------------------------------------------------------------

    def hear(self, event: Event) -> None:
        """An event of any channel. Runs in the connection's reader."""
        channel = event.get("Unique-ID")
        if event.name == "CHANNEL_HANGUP_COMPLETE":
            self._over.append(channel)
            self.release(channel)
        elif event.name == "CHANNEL_CREATE" and event.get("Call-Direction") == "outbound":
            self.listed(channel, event.get("Caller-Destination-Number"))

    def listed(self, channel: str, dialled: str) -> None:
        """The switch has this leg of its own, to these digits as an exchange takes them."""
        known = self._by_channel.get(channel)
        if known is not None:
            self._is_there(known)
        elif channel not in self._over and (number := to_e164(dialled)) is not None:
            self.hold(number, channel)

    def looked(self, claim: Claim, there: set[str], listed: set[str]) -> None:
        """The switch was asked for this claim's channels by uuid: `there` are those that live. `listed` are those of its list,
        asked for after that, which keeps a channel until all of its end is done.

        A claim that nobody owns ends by evidence alone: its leg was seen and is gone; or the caller's channel, whose thread
        would dial the leg, is gone and there is no leg; or nothing has begun to dial it for UNBORN_SECONDS.
        """
        if claim.owned or self._by_channel.get(claim.channel) is not claim:
            return
        now = self.clock()
        if claim.channel in there:
            self._is_there(claim)
            return
        if claim.channel in listed or (not claim.seen and claim.dialler in there | listed):
            claim.absent_since = None
            return
        if claim.absent_since is None:
            claim.absent_since = now
        patience = ABSENT_SECONDS if claim.seen or claim.dialler else UNBORN_SECONDS
        if now - claim.absent_since >= patience:
            self.found_over += 1
            self.release(claim.channel)

    def _is_there(self, claim: Claim) -> None:
        claim.seen, claim.absent_since = True, None

    def _of(self, legs: Iterable[str]) -> list[Claim]:
        return [claim for leg in legs if (claim := self._by_channel.get(leg)) is not None]

    def _put(self, claim: Claim) -> None:
        self._by_channel[claim.channel] = claim
        self._by_number.setdefault(claim.number, []).append(claim)
