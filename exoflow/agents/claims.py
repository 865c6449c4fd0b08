"""Which telephones are engaged by us: a number is claimed before it is rung, whoever named it, so that no two calls ring it.

Memory decides and nothing is waited for: the store and the switch only help to know again, after a death, what was known
before. A claim bears the uuid of the leg it is for, which the switch gives the leg (`origination_uuid`): it lives as long as
that leg lives on FreeSWITCH, under whichever exoflow, and ends with the leg's CHANNEL_HANGUP_COMPLETE, with an attempt that
made no leg, or when a look at the switch finds no such leg (agents/watch.py).

Held are also the numbers of those who call us, for their phone is in use, and of legs that the switch dialled by itself
(dialplan/fallback).
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from exoflow.errors import ExoflowError
from exoflow.esl.codec import Event
from exoflow.telephony.numbers import to_e164

MANY_LATELY = 1000  # channels whose end was heard: an event of theirs that comes later is no new leg
# a leg that was claimed and never seen on the switch may yet be dialled by its call when that comes back; calls do within
# seconds (calls/lost.py gives one up after as many)
UNSEEN_SECONDS = 12.0


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

    def claim(self, number: str, leg: str, call: str, lines: int = 1) -> bool:
        """Takes a telephone for a leg that is about to be dialled; False if it is engaged: `lines` calls are on it already.

        A leg that has its claim (its call came back) keeps it.
        """
        known = self._by_channel.get(leg)
        if known is not None:
            known.owned = True
            return True
        if len(self.holders(number)) >= lines:
            return False
        self._put(Claim(number, leg, call, self.clock(), owned=True))
        return True

    def hold(self, number: str, channel: str, call: str = "", *, seen: bool = True, calls_us: bool = False) -> Claim:
        """Notes that a telephone is in use; more than once changes nothing."""
        known = self._by_channel.get(channel)
        if known is None:
            known = Claim(number, channel, call, self.clock(), seen=seen, calls_us=calls_us)
            self._put(known)
        known.seen = known.seen or seen
        return known

    def recall(self, number: str, channel: str, call: str, *, seen: bool, calls_us: bool = False) -> None:
        """A use that an earlier process has noted; nothing if its end was heard here."""
        if channel not in self._over:
            self.hold(number, channel, call, seen=seen, calls_us=calls_us)

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

    @contextmanager
    def attempted(self, legs: Sequence[str], switch_tells: Callable[[], bool]) -> Iterator[None]:
        """Around an attempt on claimed legs, which owns the claims. Behind it they go, unless a leg was seen on the switch and
        its end was not heard: then its claim stays until that is, or a look finds the leg gone.

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
            for claim in [claim for leg in legs if (claim := self._by_channel.get(leg)) is not None]:
                claim.owned = False
                # an attempt whose socket was lost goes on at the switch, and comes back
                if settled and not (claim.seen and switch_tells()):
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
            known.seen = True
        elif channel not in self._over and (number := to_e164(dialled)) is not None:
            self.hold(number, channel)

    def missing(self, channel: str) -> None:
        """The switch has no such channel."""
        claim = self._by_channel.get(channel)
        if claim is None or claim.owned:
            return
        if claim.seen or self.clock() - claim.since >= UNSEEN_SECONDS:
            self.found_over += 1
            self.release(channel)

    def _put(self, claim: Claim) -> None:
        self._by_channel[claim.channel] = claim
        self._by_number.setdefault(claim.number, []).append(claim)
