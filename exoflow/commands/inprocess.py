"""For `exoflow demo` and `exoflow call`: the server and the embedded switch in one process, and a call's end awaited."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import tzinfo
from typing import Any
from zoneinfo import ZoneInfo

import click
import gevent

from exoflow.calls import posted
from exoflow.calls.lookup import Delivery, deliveries_of
from exoflow.calls.model import CallState, Entry
from exoflow.calls.posted import Posted
from exoflow.config.model import Config
from exoflow.errors import ExoflowError
from exoflow.prompts import PromptBook
from exoflow.serve import Service
from exoflow.sim.phone import Phone
from exoflow.sim.rehearsal import Rehearsal

CLOSE_SECONDS = 20.0  # after the caller has gone: steps that need no caller run on, then the record is closed
DELIVERY_SECONDS = 10.0  # the first attempt at a call's delivery
LOOK_SECONDS = 0.02
DEFAULT_ZONE = "Asia/Kolkata"


class Hall:
    """What runs: the service, the switch around it, and the calls' records as they grow."""

    def __init__(self, service: Service, rehearsal: Rehearsal) -> None:
        self.service, self.rehearsal, self.switch = service, rehearsal, rehearsal.switch
        self.states: dict[str, CallState] = {}  # by the caller's channel
        self.on_entry: Callable[[CallState, Entry], None] = lambda state, entry: None
        service.book.listeners.append(self._noted)

    def _noted(self, state: CallState, entry: Entry) -> None:
        self.states[state.facts.channel] = state
        self.on_entry(state, entry)

    def state(self, phone: Phone) -> CallState | None:
        """The record of a phone's call, closed if that came in time; None if exoflow never had the call."""
        state = self.states.get(phone.uuid)
        if state is not None:
            self._until(lambda: state.facts.id not in self.service.book.live, CLOSE_SECONDS)
        return state

    def deliveries(self, state: CallState) -> list[Delivery]:
        """The call's deliveries, after their first attempt if that came in time."""

        def read() -> list[Delivery]:
            found: list[Delivery] = self.service.book.store.read(lambda connection: deliveries_of(connection, state.facts.id))
            return found

        self._until(lambda: all(row.attempts for row in read()), DELIVERY_SECONDS)
        return read()

    def posted(self, state: CallState) -> list[Posted]:
        """The same with their bodies."""
        found: list[Posted] = self.service.book.store.read(lambda connection: posted.of_call(connection, state.facts.id))
        return found

    def mask(self, state: CallState) -> tuple[str, ...]:
        """The secret names of the call's account."""
        account = self.rehearsal.config.accounts.get(state.facts.account or "")
        return tuple(account.crm.mask) if account else ()

    def zone(self, state: CallState) -> tzinfo:
        account = self.rehearsal.config.accounts.get(state.facts.account or "")
        return ZoneInfo(account.time_zone if account else DEFAULT_ZONE)

    def account_name(self, state: CallState) -> str:
        account = self.rehearsal.config.accounts.get(state.facts.account or "")
        return account.name if account else ""

    @staticmethod
    def _until(true: Callable[[], bool], seconds: float) -> None:
        with gevent.Timeout(seconds, False):
            while not true():
                gevent.sleep(LOOK_SECONDS)


@contextmanager
def started(config: Config, *, sends: bool = True, **options: Any) -> Iterator[Hall]:
    """Switch and server, stopped at the end; `sends` is Service's, `options` are Rehearsal's. What cannot start is a
    ClickException."""
    rehearsal: Rehearsal | None = None
    service: Service | None = None
    try:
        try:
            rehearsal = Rehearsal(config, **options)
            PromptBook(rehearsal.config.prompts).build(rehearsal.config)
            service = Service(rehearsal.config, sends=sends)
            service.start()
            serving = service
            rehearsal.switch.clock.watch(lambda: serving.in_flight)
            rehearsal.serve_at(service.address)
        except (ExoflowError, OSError) as error:
            raise click.ClickException(f"cannot start: {error}") from error
        yield Hall(service, rehearsal)
    finally:
        if service is not None:
            service.stop()
        if rehearsal is not None:
            rehearsal.stop()
