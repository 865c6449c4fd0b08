"""Calls are slow and lines are many: tests marked `together` are played at once, each in a greenlet of its own.

The first of them in a file starts all that are selected; each then waits for its own end. They share the file's `site` and
nothing else: each test has its own callers and agents, and asks the CRM's requests by its own caller.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent.pool import Pool

AT_ONCE = 12
APART_SECONDS = 0.1
TEST_SECONDS = 120.0

_started: set[Path] = set()
_played: dict[str, gevent.Greenlet] = {}


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "together: played at once with the file's others that are marked so (ring2/together.py)")


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Waits for a test that is played together with others, instead of calling it."""
    if pyfuncitem.get_closest_marker("together") is None:
        return None
    if pyfuncitem.path not in _started:
        _started.add(pyfuncitem.path)
        gevent.spawn(_start, list(_others(pyfuncitem)), pyfuncitem.funcargs["site"])
    with gevent.Timeout(TEST_SECONDS, TimeoutError(f"not played to its end within {TEST_SECONDS:g} s")):
        while pyfuncitem.nodeid not in _played:
            gevent.sleep(0.05)
        _played[pyfuncitem.nodeid].join()
    failure: Any = _played[pyfuncitem.nodeid].value
    if failure is not None:
        raise failure
    return True


def _others(chosen: pytest.Function) -> Iterator[pytest.Function]:
    for item in chosen.session.items:
        if isinstance(item, pytest.Function) and item.path == chosen.path and item.get_closest_marker("together"):
            yield item


def _start(items: list[pytest.Function], site: Any) -> None:
    pool = Pool(AT_ONCE)
    for item in items:
        arguments = dict(item.callspec.params) if hasattr(item, "callspec") else {}
        _played[item.nodeid] = pool.spawn(_play, item.obj, {"site": site, **arguments})
        gevent.sleep(APART_SECONDS)


def _play(function: Any, arguments: dict[str, Any]) -> BaseException | None:
    """The failure as a value: gevent would print it as an unhandled exception of its greenlet."""
    try:
        function(**arguments)
    except (Exception, gevent.Timeout, pytest.fail.Exception, pytest.skip.Exception) as failure:
        return failure
    return None
