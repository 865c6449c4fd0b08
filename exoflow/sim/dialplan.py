"""What the project's `dialplan/` does with a call, for the embedded switch: the contract between switch and app.

A call is counted per trunk, guarded, and given to the app; when the app ends or dies the call comes back to it by a transfer to
itself. Nobody answering the connection, or too many deaths, lead to the fallback.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from exoflow.sim.session import Session

GUARD = "exoflow_guard"  # the app accepted the call and did nothing with it
FALLBACK = "exoflow_fallback"
MAX_DEATHS = 3  # of the app, with one call, within DEATH_SECONDS: then the fallback
DEATH_SECONDS = 10.0  # wall seconds
FALLBACK_TONE = "tone_stream://%(500,500,425);loops=3"

Actions = list[tuple[str, str]]


class Dialplan:
    """`hosts` is the argument of `socket`; `guard_seconds` the wall seconds the app has to disarm the guard."""

    def __init__(self, hosts: str, *, guard_seconds: float = 5.0, most_calls: int | None = None) -> None:
        self.hosts, self.guard_seconds, self.most_calls = hosts, guard_seconds, most_calls

    def __call__(self, session: Session, destination: str) -> Actions:
        if destination == GUARD:
            return self._guard(session)
        if destination == FALLBACK:
            return self._fallback()
        return self._call(session, destination)

    def _call(self, session: Session, destination: str) -> Actions:
        variables = session.channel.variables
        variables.setdefault("exo_did", destination)
        trunk = session.phone.trunk
        most = trunk.channels if self.most_calls is None else self.most_calls
        actions = [
            (
                "multiset",
                f"^^;exo_trunk={trunk.name};hangup_after_bridge=false;continue_on_fail=true;limit_ignore_transfer=true",
            ),
            ("limit", f"hash pri_in {trunk.name} {most} !USER_BUSY"),
        ]
        if session.died_too_often(MAX_DEATHS, DEATH_SECONDS):
            return [*actions, ("set", "exo_fallback=deaths"), ("transfer", f"{FALLBACK} XML from-pri")]
        return [
            *actions,
            ("sched_transfer", f"+{self.guard_seconds:g} {GUARD} XML from-pri"),
            ("socket", f"{self.hosts} async full"),
            ("sched_cancel", ""),
            # a living app ends its call itself: who comes here lost its app, or found none
            ("exo_again", destination),
        ]

    def _guard(self, session: Session) -> Actions:
        """The other hosts, once, then the fallback."""
        actions: Actions = [("sched_cancel", ""), ("set", "exo_fallback=guard")]
        if "|" in self.hosts:
            first, _, others = self.hosts.partition("|")
            actions += [
                ("sched_transfer", f"+{self.guard_seconds:g} {FALLBACK} XML from-pri"),
                ("socket", f"{others}|{first} async full"),
                ("sched_cancel", ""),
            ]
        return [*actions, ("transfer", f"{FALLBACK} XML from-pri")]

    def _fallback(self) -> Actions:
        """A polite end: no file that could be missing."""
        return [("sched_cancel", ""), ("answer", ""), ("playback", FALLBACK_TONE), ("hangup", "NORMAL_TEMPORARY_FAILURE")]
