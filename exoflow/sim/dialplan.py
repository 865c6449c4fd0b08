"""What the project's `dialplan/` does with a call, for the embedded switch: the contract between switch and app.

Same extensions, variables and reasons as `dialplan/from-pri/*.xml`. A call is counted per trunk, guarded, and given to the app;
when the app ends or dies the call comes back to it by a transfer to itself. Nobody answering, or too many deaths, lead to the
fallback. What judges the app runs on the wall clock.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

from exoflow.sim.apps import application

if TYPE_CHECKING:
    from exoflow.sim.session import Session

DIED = "exoflow_died"  # the socket came back: the app died, or none could be reached
GUARD = "exoflow_guard"  # an app accepted the call and did nothing with it
FALLBACK = "exoflow_fallback"
MAX_DEATHS, DEATH_SECONDS = 3, 10.0  # so many deaths with one call within so many seconds: the call kills its apps
MAX_REFUSALS, REFUSAL_MS = 8, 250  # 2 s, in which a supervisor has restarted the app
FALLBACK_TONE = "tone_stream://%(330,0,950);%(330,0,1400);%(330,1000,1800);loops=2"  # ITU-T E.180: cannot be completed

Actions = list[tuple[str, str]]


class Dialplan:
    """`hosts` is the argument of `socket`, `others` that of a second box; `most_calls` counts per trunk."""

    def __init__(self, hosts: str, others: str = "", *, guard_seconds: float = 5.0, most_calls: int | None = None) -> None:
        self.hosts, self.others = hosts, others
        self.guard_seconds, self.most_calls = guard_seconds, most_calls
        self.drain = False

    def __call__(self, session: Session, destination: str) -> Actions:
        if destination == DIED:
            return self._died(session)
        if destination == GUARD:
            return self._guard(session)
        if destination == FALLBACK:
            return self._fallback()
        if not re.fullmatch(r"\+?\d{2,15}", destination):
            return [("set", "exo_refused=number"), ("hangup", "UNALLOCATED_NUMBER")]
        return self._new(session, destination) + self._app(session, self.hosts, "hosts")

    def _new(self, session: Session, destination: str) -> Actions:
        """Marks and admission, once a call."""
        variables = session.channel.variables
        if "exo_entry" in variables:
            return []
        trunk = session.phone.trunk
        variables |= {"exo_entry": "0", "exo_did": destination.removeprefix("+"), "exo_trunk": trunk.name, "exo_refusals": "0"}
        if re.fullmatch(r"\+?\d{2,20}", session.channel.rdnis):
            variables["exo_diverted_from"] = session.channel.rdnis
        if self.drain:
            return [("set", "exo_refused=drain"), ("hangup", "NORMAL_TEMPORARY_FAILURE")]
        most = trunk.channels if self.most_calls is None else self.most_calls
        return [
            ("multiset", "^^;exo_refused=limit;limit_ignore_transfer=true"),
            ("limit", f"hash exoflow_in {trunk.name} {most} !USER_BUSY"),
            ("unset", "exo_refused"),
        ]

    def _app(self, session: Session, hosts: str, asked: str) -> Actions:
        entry = int(session.channel.variables.get("exo_entry", "0")) + 1
        return [
            ("multiset", f"^^;exo_asked={asked};exo_entry={entry};hangup_after_bridge=false;continue_on_fail=true"),
            ("sched_transfer", f"+{self.guard_seconds:g} {GUARD} XML from-pri"),
            ("socket", f"{hosts} async full"),
            ("sched_cancel", ""),
            ("transfer", f"{DIED} XML from-pri"),
        ]

    def _died(self, session: Session) -> Actions:
        variables = session.channel.variables
        again = [("transfer", f"{variables.get('exo_did', '')} XML from-pri")]
        if session.reached_app:
            session.deaths.append(time.monotonic())
            variables |= {"exo_end": "died", "exo_refusals": "0"}
            return _to_fallback("deaths") if session.died_too_often(MAX_DEATHS, DEATH_SECONDS) else again
        variables["exo_end"] = "refused"
        if variables.get("exo_asked") == "others":
            return _to_fallback("guard")
        refusals = int(variables.get("exo_refusals", "0")) + 1
        variables["exo_refusals"] = str(refusals)
        return [("exo_pause", str(REFUSAL_MS)), *again] if refusals <= MAX_REFUSALS else _to_fallback("refused")

    def _guard(self, session: Session) -> Actions:
        """The other boxes, once, then the fallback."""
        variables = session.channel.variables
        if not self.others or "exo_others_tried" in variables:
            return _to_fallback("guard")
        variables["exo_others_tried"] = "true"
        return self._app(session, self.others, "others")

    def _fallback(self) -> Actions:
        return [
            ("sched_cancel", ""),
            ("answer", ""),
            ("sleep", "300"),
            ("playback", FALLBACK_TONE),
            ("hangup", "NORMAL_CLEARING"),
        ]


def _to_fallback(why: str) -> Actions:
    return [("set", f"exo_fallback={why}"), ("transfer", f"{FALLBACK} XML from-pri")]


@application("exo_pause")
def pause(session: Session, argument: str) -> None:
    """Milliseconds of the wall clock: the `sleep` between two tries to reach an app."""
    session.wait(float(argument) / 1000, wall=True)
