"""What `exoflow call` shows of each call when it has ended: times, the whole record, and what was not sent."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import click

from exoflow.calls.model import CallState, Entry
from exoflow.calls.posted import Posted
from exoflow.calls.show import WIDTH, call_sheet, clean
from exoflow.commands.calls import terminal_columns
from exoflow.commands.inprocess import Hall
from exoflow.commands.terminal import Caller, times_of
from exoflow.crm.outgoing import shown

FILE = "file"  # names a recording: in the journey's evidence, and in a delivery


class Sheets:
    """One for the command; `kept`: recordings stay after it, so that their paths are worth showing."""

    def __init__(self, hall: Hall, *, real: bool, kept: bool) -> None:
        self._hall, self._real, self._kept = hall, real, kept

    def show(self, caller: Caller) -> str:
        """The sheet of a call that has ended; its complaint if exoflow never had it."""
        hall, phone = self._hall, caller.phone
        assert phone is not None
        state = hall.state(phone)
        click.echo("")
        click.echo(times_of(caller))
        if state is None:
            return f"{caller.prefix}exoflow never had this call; it ended with {phone.cause}"
        deliveries = hall.deliveries(state)
        columns, shown_state = terminal_columns(), state if self._kept else without_files(state)
        sheet = call_sheet(
            shown_state,
            hall.zone(state),
            account_name=hall.account_name(state),
            deliveries=deliveries if self._real else (),
            width=columns,
        )
        click.echo(sheet)
        if not self._real and deliveries:
            click.echo("\nNot sent to the CRM (--real sends it)")
            for posted in hall.posted(state):
                for line in unsent_lines(posted, hall.mask(state), files=self._kept):
                    click.echo(_wrapped(line, columns or WIDTH))
        return ""


def without_files(state: CallState) -> CallState:
    """The call without the paths of recordings, which are removed with the command's end."""

    def bare(entry: Entry) -> Entry:
        return replace(entry, evidence={key: value for key, value in entry.evidence.items() if key != FILE})

    recordings = [replace(recording, path="") for recording in state.recordings]
    return replace(state, recordings=recordings, journey=[bare(entry) for entry in state.journey])


def unsent_lines(posted: Posted, mask: tuple[str, ...], *, files: bool) -> Iterator[str]:
    """What it is and where it would go, and then what it says; with `files` also the paths of recordings."""
    delivery = posted.delivery
    tried = delivery.attempts[-1] if delivery.attempts else None
    where = f"to {clean(tried.url)}" if tried is not None and tried.url else ""
    yield "  " + " ".join(part for part in (delivery.type, where) if part)
    if delivery.problem:
        yield f"     {clean(delivery.problem)}"
    said = shown(delivery.type, posted.body, mask)
    if isinstance(said, dict) and "parameters" in said:
        yield "     " + "  ".join(f"{clean(name)}={clean(value)}" for name, value in said["parameters"])
    else:
        yield "     " + clean(json.dumps(_short(said, files=files), ensure_ascii=False))


def _short(said: Any, *, files: bool) -> Any:
    """A delivery without the journey, which the sheet has shown."""
    if not isinstance(said, dict) or not isinstance(said.get("data"), dict):
        return said
    data = said["data"]
    journey = data.get("journey")
    short: dict[str, Any] = {}
    if isinstance(journey, list):
        short["journey"] = f"{len(journey)} entries, as above"
    if not files and isinstance(data.get("recordings"), list):
        short["recordings"] = [{**one, FILE: None} for one in data["recordings"]]
    return {**said, "data": {**data, **short}}


def _wrapped(line: str, width: int) -> str:
    indent = line[: len(line) - len(line.lstrip())]
    return textwrap.fill(line.strip(), width, initial_indent=indent, subsequent_indent=indent + "  ", break_on_hyphens=False)
