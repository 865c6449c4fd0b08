"""How an agent's telephone behaves when the embedded switch rings it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from gevent.event import Event

if TYPE_CHECKING:
    from exoflow.sim.phone import Phone


@dataclass(eq=False)
class Handset:
    """A telephone that rings and waits for somebody's hand; `caller` is whose call it is."""

    who: str
    caller: Phone
    moved: Event  # tells the leg of each wish
    lifted: bool = False
    cause: str = ""  # released with it
    over: bool = False  # the leg has ended, from whichever side
    told: Callable[[str], None] = lambda cause: None  # of the leg's end

    def answer(self) -> None:
        self.lifted = True
        self.moved.set()

    def release(self, cause: str) -> None:
        """Refuses the call, or ends the talk."""
        self.cause = cause
        self.moved.set()


@dataclass(frozen=True)
class AgentScript:
    """One telephone's behaviour; times in seconds of switch time, each from the event before it.

    `cause` set: the network releases the leg with it after `alert_after` (and `answer_after`, if it rang before).
    """

    alert_after: float | None = 0.3  # SETUP to ALERTING (PDD); None: never alerts
    announcement_after: float | None = None  # SETUP to in-band announcement (PROGRESS with audio)
    answer_after: float | None = 2.0  # ALERTING to CONNECT; None: rings on
    talk_seconds: float | None = 10.0  # CONNECT to the agent hanging up; None: waits for the caller to
    cause: str = ""  # released by the network with this instead of answering
    no_channel: bool = False  # our own trunk has no free channel: 34 without a leg
    name: str = ""
    presses: str = ""  # keys, when he has answered
    press_after: float = 1.0  # CONNECT to the first key, and between two; `talk_seconds` then count from the last
    redirects: str = ""  # a SIP phone that answers 302: the user part of the address, which is one of this switch
    transfers: str = ""  # a SIP phone that transfers the caller (REFER) after `talk_seconds`: the user part
    hand: Callable[[Handset], None] | None = None  # is told of each ringing; who holds the handset decides from there on

    @classmethod
    def answers(cls, after: float = 2.0, talks: float | None = 10.0, *, name: str = "") -> AgentScript:
        return cls(answer_after=after, talk_seconds=talks, name=name)

    @classmethod
    def accepts(
        cls, key: str = "1", press_after: float = 2.0, *, after: float = 2.0, talks: float | None = 10.0
    ) -> AgentScript:
        """Answers, listens, and presses a key, or several."""
        return cls(answer_after=after, presses=key, press_after=press_after, talk_seconds=talks)

    @classmethod
    def mailbox(cls, after: float = 2.0, lasts: float | None = None) -> AgentScript:
        """Answers and knows no keys."""
        return cls(answer_after=after, talk_seconds=lasts)

    @classmethod
    def busy(cls) -> AgentScript:
        return cls(alert_after=None, answer_after=None, cause="USER_BUSY")

    @classmethod
    def rejects(cls, after: float = 3.0) -> AgentScript:
        """Rings, and the agent presses the red button."""
        return cls(answer_after=after, cause="CALL_REJECTED")

    @classmethod
    def silent(cls) -> AgentScript:
        """Rings until we give up."""
        return cls(answer_after=None)

    @classmethod
    def by_hand(cls, hand: Callable[[Handset], None]) -> AgentScript:
        """Rings on until somebody answers or refuses it, and talks until somebody hangs up."""
        return cls(answer_after=None, talk_seconds=None, hand=hand)

    @classmethod
    def slow(cls, alert_after: float = 7.0, answer_after: float = 2.0, talks: float | None = 10.0) -> AgentScript:
        """A mobile network that takes its time to ALERTING."""
        return cls(alert_after=alert_after, answer_after=answer_after, talk_seconds=talks)

    @classmethod
    def announcement(cls, lasts: float | None = None, cause: str = "NO_USER_RESPONSE") -> AgentScript:
        """`The number you are calling is switched off`: audio without ALERTING, then nothing, or the release after it."""
        released = "" if lasts is None else cause
        return cls(alert_after=None, announcement_after=1.5, answer_after=lasts, cause=released)

    @classmethod
    def unannounced(cls, after: float = 4.0, talks: float | None = 10.0) -> AgentScript:
        """CONNECT without ALERTING, as some exchanges do."""
        return cls(alert_after=None, answer_after=after, talk_seconds=talks)

    @classmethod
    def unreachable(cls) -> AgentScript:
        return cls(alert_after=None, answer_after=None, cause="SUBSCRIBER_ABSENT")

    @classmethod
    def released(cls, cause: str) -> AgentScript:
        """The network releases the leg with any other cause."""
        return cls(alert_after=None, answer_after=None, cause=cause)

    @classmethod
    def redirected(cls, to: str) -> AgentScript:
        """A SIP phone that sends its calls elsewhere."""
        return cls(alert_after=None, answer_after=None, redirects=to)

    @classmethod
    def transferring(cls, to: str, after: float = 2.0, talks: float = 5.0) -> AgentScript:
        """A SIP phone that answers, and transfers the caller."""
        return cls(answer_after=after, talk_seconds=talks, transfers=to)

    @classmethod
    def without_channel(cls) -> AgentScript:
        return cls(no_channel=True)

    def called(self, name: str) -> AgentScript:
        return replace(self, name=name)


Scripts = Mapping[str, AgentScript | Sequence[AgentScript]]

RELEASE_SECONDS = 0.5  # SETUP to a release of the network when the script names no other time


class AgentBook:
    """Scripts by the end of the number that is dialled. A sequence is used one a call, its last one from then on."""

    def __init__(self, scripts: Scripts, default: AgentScript) -> None:
        self.scripts, self.default = dict(scripts), default
        self._used: dict[str, int] = {}

    def script(self, digits: str) -> AgentScript:
        tails = [tail for tail in self.scripts if digits.endswith(tail.removeprefix("+91").removeprefix("+"))]
        if not tails:
            return self.default
        tail = max(tails, key=len)
        found = self.scripts[tail]
        if isinstance(found, AgentScript):
            return found
        at = self._used.get(tail, 0)
        self._used[tail] = at + 1
        return found[min(at, len(found) - 1)]
