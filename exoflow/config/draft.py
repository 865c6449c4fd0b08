"""A configuration while it is checked: models as far as they could be built, and the documents they came from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from exoflow.config import parameters
from exoflow.config.model import Account, Main
from exoflow.config.steps import Prompt, Step, Strict
from exoflow.config.yaml12 import Document


@dataclass(slots=True)
class AccountDraft:
    id: str
    document: Document
    account: Account
    broken: set[tuple[Any, ...]] = field(default_factory=set)  # paths of steps that were left out for their mistakes
    _run: Account | None = None

    def step_names(self, flow: str) -> dict[str, Any]:
        """All steps as written, the broken ones too, by their raw values."""
        steps: dict[str, Any] = self.document.value["flows"][flow]["steps"]
        return steps

    def steps(self) -> Iterator[tuple[str, str, Step]]:
        """Flow's name, step's name and step of every step that is in order."""
        for flow_name, flow in self.account.flows.items():
            for step_name, step in flow.steps.items():
                yield flow_name, step_name, step

    def as_run(self) -> Account:
        """The account with its flows as callers meet them, with values for their parameters. Made once."""
        if self._run is None:
            self._run = parameters.as_run(self.account)
        return self._run

    def steps_as_run(self) -> Iterator[tuple[str, str, Step]]:
        """As `steps`, of the flows as they are run: one step may come several times, with several values in its texts. Steps of
        flows that nobody uses come as they are written."""
        run = self.as_run().flows
        for name, flow in run.items():
            for step_name, step in flow.steps.items():
                yield name.partition("(")[0], step_name, step


@dataclass(slots=True)
class Draft:
    main_document: Document
    main: Main | None
    accounts: list[AccountDraft] = field(default_factory=list)


def prompts_of(step: Step, languages: Sequence[str]) -> Iterator[tuple[tuple[str | int, ...], Prompt]]:
    """Every prompt of a step, with its path in the step: greeting, menu and its further prompts, hold, ringback, those of a
    queue, and the blocks it says values with in each of the account's languages."""
    for block in step.spoken(languages):
        yield (step.applet,), block
    settings = getattr(step, step.applet)
    if isinstance(settings, list):
        for i, prompt in enumerate(settings):
            yield (step.applet, i), prompt
        return
    yield from _prompts_in(settings, (step.applet,))


def _prompts_in(settings: Strict, where: tuple[str | int, ...]) -> Iterator[tuple[tuple[str | int, ...], Prompt]]:
    if isinstance(settings, Prompt):
        yield where, settings
    for name in type(settings).model_fields:
        if isinstance(value := getattr(settings, name), Strict):
            yield from _prompts_in(value, (*where, name))
