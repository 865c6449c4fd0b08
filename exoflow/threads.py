"""Blocking work in a thread, whose errors are raised where it is waited for."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import gevent
from gevent.threadpool import ThreadPool

T = TypeVar("T")


def in_thread(function: Callable[..., T], *arguments: object, pool: ThreadPool | None = None) -> T:
    """The function's result, of a thread of `pool`, or of gevent's own. Raises what the function raises.

    The error comes back as a value: gevent prints a traceback of each that leaves a thread, expected or not.
    """

    def caught() -> tuple[T, None] | tuple[None, Exception]:
        try:
            return function(*arguments), None
        except Exception as error:
            return None, error

    found, error = (pool or gevent.get_hub().threadpool).apply(caught)
    if error is not None:
        raise error
    result: T = found
    return result
