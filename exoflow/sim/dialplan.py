"""What the project's `dialplan/` does with a call, for the embedded switch: the contract between switch and app.

Same variables and reasons as `dialplan/from-pri/*.xml`. A call is counted per trunk, guarded, and given to the app in rounds: a
round that comes back lost its app or found none. Nobody there for too long, or too many deaths, lead to the fallback. What
judges the app runs on the wall clock.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from exoflow.sim.apps import application

if TYPE_CHECKING:
    from exoflow.sim.session import Session

GUARD = "exoflow_guard"  # an app accepted the call and did nothing with it
FALLBACK = "exoflow_fallback"
MAX_DEATHS, DEATH_SECONDS = 3, 10.0  # so many deaths with one call within so many seconds: the call kills its apps
REFUSED_SECONDS, LOOK_MS = 2.0, 250  # in 2 s a supervisor has restarted the app; so often it is looked for
FALLBACK_TONE = "tone_stream://%(330,0,950);%(330,0,1400);%(330,1000,1800);loops=2"  # ITU-T E.180: cannot be completed

Actions = Iterator[tuple[str, str]]


class Dialplan:
    """`hosts` is the argument of `socket`, `others` that of a second box; `most_calls` counts per trunk.

    Called for a destination it gives the actions one after the other, each decided when the one before has ended.
    """

    def __init__(self, hosts: str, others: str = "", *, guard_seconds: float = 5.0, most_calls: int | None = None) -> None:
        self.hosts, self.others = hosts, others
        self.guard_seconds, self.most_calls = guard_seconds, most_calls
        self.drain = False

    def __call__(self, session: Session, destination: str) -> Actions:
        if destination == GUARD:
            yield from self._guard(session)
        elif destination == FALLBACK:
            yield from self._fallback()
        elif re.fullmatch(r"\+?\d{2,15}", destination):
            yield from self._new(session, destination)
            yield from self._rounds(session)
        else:
            yield "set", "exo_refused=number"
            yield "hangup", "UNALLOCATED_NUMBER"

    def _new(self, session: Session, destination: str) -> Actions:
        """Marks and admission."""
        variables, trunk = session.channel.variables, session.phone.trunk
        variables |= {"exo_entry": "0", "exo_did": destination.removeprefix("+"), "exo_trunk": trunk.name}
        if re.fullmatch(r"\+?\d{2,20}", session.channel.rdnis):
            variables["exo_diverted_from"] = session.channel.rdnis
        if self.drain:
            yield "set", "exo_refused=drain"
            yield "hangup", "NORMAL_TEMPORARY_FAILURE"
        most = trunk.channels if self.most_calls is None else self.most_calls
        yield "multiset", "^^;exo_refused=limit;limit_ignore_transfer=true"
        yield "limit", f"hash exoflow_in {trunk.name} {most} !USER_BUSY"
        yield "unset", "exo_refused"

    def _rounds(self, session: Session) -> Actions:
        yield "multiset", "^^;hangup_after_bridge=false;continue_on_fail=true"
        gone_at = time.monotonic()  # since when the call has no app
        while True:
            yield from self._round(session, self.hosts, "hosts")
            if session.reached_app:
                gone_at = time.monotonic()
                session.deaths.append(gone_at)
                session.channel.variables["exo_end"] = "died"
                if session.died_too_often(MAX_DEATHS, DEATH_SECONDS):
                    yield from _to_fallback("deaths")
                    return
            else:
                session.channel.variables["exo_end"] = "refused"
                if time.monotonic() - gone_at >= REFUSED_SECONDS:
                    yield from _to_fallback("refused")
                    return
                yield "exo_wait", str(LOOK_MS)

    def _round(self, session: Session, hosts: str, asked: str) -> Actions:
        """One guarded `socket`; `exo_entry` counts them, so that an app knows whether the call is still its own."""
        entry = int(session.channel.variables.get("exo_entry", "0")) + 1
        yield "multiset", f"^^;exo_asked={asked};exo_entry={entry}"
        yield "sched_transfer", f"+{self.guard_seconds:g} {GUARD} XML from-pri"
        yield "socket", f"{hosts} async full"
        yield "sched_cancel", ""

    def _guard(self, session: Session) -> Actions:
        """The other boxes, once, then the fallback."""
        variables = session.channel.variables
        if self.others and "exo_others_tried" not in variables:
            variables["exo_others_tried"] = "true"
            yield from self._round(session, self.others, "others")
            if session.reached_app:
                yield from self._rounds(session)
        yield from _to_fallback("guard")

    def _fallback(self) -> Actions:
        yield "sched_cancel", ""
        yield "answer", ""
        yield "sleep", "300"
        yield "playback", FALLBACK_TONE
        yield "hangup", "NORMAL_CLEARING"


def _to_fallback(why: str) -> Actions:
    yield "set", f"exo_fallback={why}"
    yield "transfer", f"{FALLBACK} XML from-pri"


@application("exo_wait")
def wait_for_an_app(session: Session, argument: str) -> None:
    """Milliseconds of the wall clock between two looks; what a caller with audio types meanwhile is kept in `exo_typed`."""
    session.wait(float(argument) / 1000, wall=True)
    if session.channel.media and session.digits:
        typed = session.channel.variables.get("exo_typed", "") + "".join(session.digits)
        session.digits.clear()
        session.channel.set("exo_typed", typed)
