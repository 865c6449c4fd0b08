"""Which application a request on `web.listen` is for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from exoflow.web.callpages import PREFIX
from exoflow.web.server import Application


def routed(health: Application, calls: Application) -> Application:
    """`/v1/…` is the Calls API, all else is health's."""

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        chosen = calls if environ["PATH_INFO"].startswith(PREFIX) else health
        return chosen(environ, start_response)

    return application
