"""Calls that we place: FreeSWITCH rings somebody and gives the call to the dialplan when he answers (`originate`)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from gevent.event import AsyncResult

from exoflow.errors import Disconnected
from exoflow.esl import safety
from exoflow.esl.codec import Event
from exoflow.esl.link import SwitchLink

CONTEXT = "from-pri"  # dialplan/from-pri.xml
LIMIT = "exoflow_in"  # the count of calls of each trunk, dialplan/from-pri/20-admission.xml
ASK_SECONDS = 2.0  # whoever wants to place a call waits for it; FreeSWITCH answers within a millisecond
_GOOD = "+OK"


class Jobs:
    """Commands that FreeSWITCH runs for us beside the connection, by their uuid."""

    def __init__(self) -> None:
        self._waiting: dict[str, AsyncResult] = {}

    @contextmanager
    def begun(self, job: str) -> Iterator[AsyncResult]:
        """The result is what the command prints, or Disconnected when nobody will tell it any more."""
        result = self._waiting[job] = AsyncResult()
        try:
            yield result
        finally:
            del self._waiting[job]

    def hear(self, event: Event) -> None:
        """A BACKGROUND_JOB event."""
        result = self._waiting.get(event.get("Job-UUID"))
        if result is not None:
            result.set(event.body.decode("utf-8", "replace").strip())

    def lost(self, why: str) -> None:
        """The connection has gone."""
        for result in self._waiting.values():
            if not result.ready():
                result.set_exception(Disconnected("the end of `originate`", why))


def originate(link: SwitchLink, dial_string: str, number: str, channel: str) -> None:
    """Has a dial string of `telephony/dialstring` rung; returns when FreeSWITCH has begun. `number` is the one of ours as which
    the dialplan then takes the call, digits alone; `channel` the leg's uuid, and so the job's.

    Raises UnsafeText, CommandRefused, DeadlineExceeded, Disconnected.
    """
    link.background(f"originate {dial_string} {safety.word('number', number)} XML {CONTEXT}", channel)


def answered(printed: str) -> bool:
    """Did it come to a call? What `originate` prints otherwise is `-ERR` and FreeSWITCH's name of a cause."""
    return printed.startswith(_GOOD)


def no_room(link: SwitchLink, trunk: str, waiting: int) -> str:
    """Why no further call may go out beside those that the dialplan has let in, and `waiting` ones that it has not seen yet;
    empty if it may. `trunk` is the dialplan's name of it.

    Raises UnsafeText, DeadlineExceeded, Disconnected.
    """
    name = safety.word("trunk", trunk)
    asked = ("exoflow_drain", f"exoflow_max_in_{name}", "exoflow_max_in")
    commands = [f"api limit_usage hash {LIMIT} {name}", *(f"api global_getvar {variable}" for variable in asked)]
    inside, drain, own_limit, limit = (
        "" if reply.refused else reply.data.strip() for reply in link.commands(*commands, deadline=ASK_SECONDS)
    )
    if drain == "true":
        return "the box is being emptied (exoflow_drain)"
    most = own_limit or limit
    if inside.isdigit() and most.isdigit() and int(inside) + waiting >= int(most):
        return f"the trunk has {most} calls, its limit (exoflow_max_in)"
    return ""


def cause_of(printed: str) -> str:
    """The cause's name in what `originate` printed."""
    return printed.removeprefix("-ERR").strip().partition(" ")[0]
