"""Whole calls, A to H, through `exoflow serve` in a process of its own; switch, callers, agents and CRM are in this one."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import gevent

from bench.processes import Program, free_port, program
from exoflow.sim.agents import AgentScript
from exoflow.sim.crm import DemoCrm
from exoflow.sim.rehearsal import DEMO_CRM_PORT, write_demo
from exoflow.sim.switch import EmbeddedSwitch

NUMBER = "+918030752400"
CALLER = "+919811100001"
AGENTS = ("+919876543210", "+919876543211")
PASSWORD = "bench"
END_SECONDS = 60.0
LINES = 480  # of an agent's number, the most that may be
CHANNELS = 1500  # of the embedded trunk: more than any load here


@contextmanager
def served(*, speed: float) -> Iterator[tuple[Program, EmbeddedSwitch, DemoCrm]]:
    """The demo's configuration, served; `speed` as of the embedded switch."""
    with tempfile.TemporaryDirectory() as name:
        folder, port = Path(name), free_port()
        main = write_demo(folder)
        account = folder / "accounts" / "acme.yaml"
        crm = DemoCrm(agents=AGENTS, secret=(folder / "accounts" / "acme.secret").read_text().strip())
        crm.start()
        switch = EmbeddedSwitch(
            ("127.0.0.1", port),
            password=PASSWORD,
            channels=CHANNELS,
            recordings=folder / "recordings",
            speed=speed,
            default_agent=AgentScript.answers(2, 5),
        )
        switch.start()
        try:
            _adapt(main, "listen: 127.0.0.1:8084", f"listen: 127.0.0.1:{port}\n  max_calls: {CHANNELS}")
            address = f"port: {switch.event_socket_address[1]}, password: {PASSWORD}"
            _adapt(main, "port: 8021", address)
            told = account.read_text()
            crm_port = crm.url("").rsplit(":", 1)[1]
            account.write_text(told.replace(f"127.0.0.1:{_written_port(told)}/", f"127.0.0.1:{crm_port}/"))
            for agent in AGENTS:  # many calls ring them at once
                _adapt(account, f'number: "{agent}"', f'number: "{agent}", lines: {LINES}')
            with program(
                "-c", "from exoflow.cli import main; main()", "serve", "-c", str(main), port=port, ready="waits for calls"
            ) as serving:
                yield serving, switch, crm
        finally:
            switch.stop()
            crm.stop()


def _adapt(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    if old not in text:
        raise ValueError(f"{path.name} has no `{old}`")
    path.write_text(text.replace(old, new))


def _written_port(account: str) -> str:
    """The port that the account's URLs have: write_demo takes another when its own is in use."""
    _, _, rest = account.partition("http://127.0.0.1:")
    return rest.partition("/")[0] or str(DEMO_CRM_PORT)


def cpu_per_call(*, calls: int, at_once: int, speed: float = 10.0) -> list[float]:
    """Seconds of CPU of `exoflow serve` for one call with greeting, menu, passthru, the CRM's agents, a recorded talk of 5 s,
    a second passthru and its delivery; once for each third of the calls. Raises AssertionError if one went otherwise.
    """
    with served(speed=speed) as (serving, switch, crm):
        _calls(switch, crm, at_once, at_once)
        found = []
        for _ in range(3):
            before = serving.cpu()
            _calls(switch, crm, calls // 3, at_once)
            found.append((serving.cpu() - before) / (calls // 3))
        return found


def _calls(switch: EmbeddedSwitch, crm: DemoCrm, count: int, at_once: int) -> None:
    """So many calls, and then until the CRM has the delivery of each."""
    had, phones = len(crm.deliveries), []

    def caller(share: int) -> None:
        for _ in range(share):
            phone = switch.call(NUMBER, CALLER, keys="1")
            phones.append(phone)
            phone.wait(END_SECONDS)

    shares = [count // at_once + (number < count % at_once) for number in range(at_once)]
    gevent.joinall([gevent.spawn(caller, share) for share in shares], raise_error=True)
    if not crm.wait_for_deliveries(had + count, END_SECONDS):
        raise AssertionError(f"{len(crm.deliveries) - had} of {count} calls were delivered")
    ends = {delivery.event["data"]["outcome"] for delivery in crm.deliveries[had:]}
    if ends != {"answered"} or any(phone.talked_at is None for phone in phones):
        raise AssertionError(f"not every call was talked: outcomes {ends}")


def memory_per_call(*, calls: int) -> float:
    """Resident bytes of `exoflow serve` for one call that waits in a prompt or menu, so many of them at once."""
    # so slow a clock that no prompt ends while we look
    with served(speed=0.01) as (serving, switch, _):
        warm = [switch.call(NUMBER, CALLER) for _ in range(20)]
        _until(lambda: all(phone.heard for phone in warm), "20 calls that hear something")
        before = serving.memory()
        phones = []
        for _ in range(calls):
            phones.append(switch.call(NUMBER, CALLER))
            gevent.sleep(0.005)
        _until(lambda: all(phone.heard for phone in phones), f"{calls} calls that hear something")
        gevent.sleep(1.0)  # the store's writer catches up
        return (serving.memory() - before) / calls


def _until(true, what: str) -> None:
    with gevent.Timeout(END_SECONDS, TimeoutError(f"no {what} within {END_SECONDS:g} s")):
        while not true():
            gevent.sleep(0.05)
