"""Which application a request on `web.listen` is for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from exoflow.web.agentpages import is_agents
from exoflow.web.answers import is_api
from exoflow.web.numberpages import is_numbers
from exoflow.web.recordings import PREFIX as RECORDINGS
from exoflow.web.server import Application


def routed(
    health: Application,
    calls: Application,
    agents: Application,
    numbers: Application,
    recordings: Application | None = None,
) -> Application:
    """`/v1/Accounts/<sid>/Agents…` is about agents, `…/IncomingPhoneNumbers…` of any version about numbers, all else under a
    version the Calls API; `/r/…` is recordings, where they have addresses; all else is health's."""

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        path, chosen = environ["PATH_INFO"], health
        if is_agents(path):
            chosen = agents
        elif is_numbers(path):
            chosen = numbers
        elif is_api(path):
            chosen = calls
        elif recordings is not None and path.startswith(RECORDINGS):
            chosen = recordings
        return chosen(environ, start_response)

    return application
