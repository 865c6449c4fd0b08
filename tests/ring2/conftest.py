"""Starts both switches once for all tests of ring 2, and says loudly when it could not."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import gevent
import pytest

from ring2 import report, together
from ring2.box import Box
from ring2.freeswitch import find_freeswitch
from ring2.network import Exchange
from ring2.site import Site

NOT_RUN = "RING 2 NOT RUN: no FreeSWITCH found (looked at FREESWITCH, PATH, /usr/local/freeswitch, /opt/freeswitch, /usr/bin)"
REQUIRED = os.environ.get("EXOFLOW_RING2") == "required"
HERE = Path(__file__).parent

_skipped: list[str] = []


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--report", metavar="FILE", help="write a report of ring 2 (Markdown)")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(together, "together")
    config.pluginmanager.register(report, "report")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder needs the switch unless it is marked otherwise."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker("freeswitch")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Keeps the reason of a skip; with EXOFLOW_RING2=required a skip is a failure. A failure shows the box's last log lines."""
    outcome = yield
    result = outcome.get_result()
    if HERE not in item.path.parents:
        return
    if result.skipped and not hasattr(result, "wasxfail"):
        reason = result.longrepr[2] if isinstance(result.longrepr, tuple) else str(result.longrepr)
        _skipped.append(reason)
        if REQUIRED:
            result.outcome, result.longrepr = "failed", f"skipped although EXOFLOW_RING2=required: {reason}"
    arguments = getattr(item, "funcargs", {})
    if result.failed and (box := arguments.get("fs")):
        result.sections.append((f"FreeSWITCH log ({box.log})", "\n".join(box.log_lines()[-60:])))
    if result.failed and (site := arguments.get("site")):
        result.sections.append((f"exoflow log ({site.log})", "\n".join(site.log_text().splitlines()[-40:])))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for reason in sorted(set(_skipped)):
        terminalreporter.write_line(reason.removeprefix("Skipped: "), red=True, bold=True)


@pytest.fixture(scope="session")
def freeswitch() -> Path:
    """The binary."""
    binary = find_freeswitch()
    if binary is None:
        pytest.skip(NOT_RUN)
    return binary


@pytest.fixture(scope="session")
def switches(freeswitch: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Box, Exchange]]:
    """The box and the exchange, running."""
    folder = tmp_path_factory.mktemp("ring2")
    exchange = Exchange(freeswitch, folder / "exchange")
    box = Box(freeswitch, folder / "box", exchange_sip_port=exchange.sip_port)
    try:
        exchange.start()
        box.start()
        exchange.wait_ready()
        box.wait_ready()
        box.listen()
        report.keep_version(box.version())
        exchange.listen(box.sip_port)
        yield box, exchange
    finally:
        gevent.joinall([gevent.spawn(box.stop), gevent.spawn(exchange.stop)])


@pytest.fixture
def exchange(switches: tuple[Box, Exchange]) -> Iterator[Exchange]:
    """The public network, without calls and agents at the start of each test."""
    yield switches[1]
    switches[1].reset()


@pytest.fixture
def fs(switches: tuple[Box, Exchange], exchange: Exchange) -> Iterator[Box]:
    """The FreeSWITCH that serves exoflow: where its app must listen, its event socket, recordings and CDRs."""
    box = switches[0]
    yield box
    exchange.reset()
    box.settle()


@pytest.fixture(scope="module")
def site(switches: tuple[Box, Exchange], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """exoflow running, for a whole file of tests; FreeSWITCH finds it where its `exoflow_hosts` points."""
    box, exchange = switches
    running = Site(box, exchange, tmp_path_factory.mktemp("site") / "exoflow")
    try:
        running.start()
        yield running
    finally:
        running.close()
