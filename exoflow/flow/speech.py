"""Texts that are known only during a call, as sound: what a CRM says, and values in the texts of the configuration."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gevent.lock import BoundedSemaphore

from exoflow.config.spoken import spoken_language
from exoflow.config.spoken_texts import as_blocks, texts_of
from exoflow.config.steps import Prompt
from exoflow.config.templates import BUILT_IN, names_in
from exoflow.crm.heard import speakable
from exoflow.errors import ExoflowError
from exoflow.flow.hidden import STARS
from exoflow.flow.templates import built_in

if TYPE_CHECKING:
    from exoflow.flow.here import Here

FILLED = "prompt.filled"  # the journey's line of a text with its values
SPEAK_SECONDS = 8.0  # of a text; espeak-ng and its resampling take 0.4 s for ten seconds of speech
SPEAK_AT_ONCE = 2  # each takes a core while it lasts; calls need the others

_speaking = BoundedSemaphore(SPEAK_AT_ONCE)


def spoken(here: Here, text: str, language: str | None = None) -> Path:
    """A text in the caller's language, or in this one, as a sound file. Waits; raises BadAudio, ShelfFull, PromptError."""
    book = here.parts.prompts
    prompt = Prompt.model_construct(say=text, play=None, language=language or here.language)
    if (path := book.rendered(prompt)) is not None:
        return path

    def speak() -> bytes:
        with _speaking:
            return book.speak(prompt, SPEAK_SECONDS)

    # the rendered file's name stands for engine, voice and text
    return here.parts.audio.made(book.path(prompt).name, speak, text=text, deadline=SPEAK_SECONDS)


def sound_file(path: Path | str) -> Prompt:
    return Prompt.model_construct(say=None, play=str(path), language=None)


def with_values(here: Here, prompt: Prompt) -> list[Prompt]:
    """A single prompt's own words and its values, as prompts in the order in which they are heard. Waits; never raises.

    A value that is not there, or secret, or that no engine can speak, is left out, and the journey says so.
    """
    told: list[Prompt] = []
    left_out: dict[str, str] = {}
    said = ""
    for own, name in texts_of(prompt):
        if own is not None:
            told.append(own)
            said += f"{own.say} "
        if name is None:
            continue
        value, problem = _value(here, name), ""
        if name in here.hidden or (name == "digits" and here.call.state.digits == STARS):
            problem = "holds secret digits, which are not said aloud"
        elif value in (None, ""):
            problem = "has no value"
        else:
            assert value is not None
            said += f"{value} "
            try:
                told += _sounds(here, name, value, prompt)
            except (ExoflowError, ValueError) as failure:
                problem = str(failure)
        if problem:
            left_out[name] = problem
    if names_in(str(prompt.say)):
        _note(here, said.strip(), left_out)
    return told


def _note(here: Here, words: str, left_out: Mapping[str, str]) -> None:
    """The journey's line, once a visit, also when the call has come back in it."""
    evidence: dict[str, Any] = {"words": words, "visit": here.at.visit}
    evidence |= {"left_out": sorted(left_out)} if left_out else {}
    if any(one.code == FILLED and one.evidence == evidence for one in here.call.state.journey):
        return
    why = "".join(f"; `{name}` {problem}, and is left out" for name, problem in left_out.items())
    here.note("C", FILLED, f"Values are said in a text{why}", **evidence)


def _value(here: Here, name: str) -> str | int | None:
    return built_in(here, name) if name in BUILT_IN else here.variables.get(name)


def _sounds(here: Here, name: str, value: str | int, prompt: Prompt) -> list[Prompt]:
    wanted = prompt.language or here.account.language
    language = spoken_language(wanted, here.account.language)
    found = as_blocks(name, value, language, here.account)
    return [sound_file(spoken(here, speakable(str(value)), wanted))] if found is None else found
