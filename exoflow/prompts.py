"""What a caller hears: prompts as 8 kHz mono WAV files, rendered beforehand, and tones that need no file.

A `say` becomes a file named after engine, voice and text (config/promptpath.py). `exoflow prompts build` and the start of
`exoflow serve` render what is missing; during a call only what a CRM's answer says is rendered (flow/speech.py).
"""

from __future__ import annotations

import os
import re
import shlex
import stat
import subprocess
import sys
import tempfile
import time
import wave
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import BaseModel

from exoflow import linesound
from exoflow.config.model import Config, Prompts
from exoflow.config.promptpath import prompt_file
from exoflow.config.spoken_texts import rendered
from exoflow.config.stepbase import Block
from exoflow.config.steps import Prompt, Step
from exoflow.errors import PromptError
from exoflow.soundfiles import why_no_sound

# Tones of mod_tone_stream: `%(on ms, off ms, Hz…)`, `v=` in dB. Nothing here can be a missing file.
RINGBACK = "tone_stream://%(400,200,400,450);%(400,2000,400,450);loops=-1"  # India's (facts, pri-and-freetdm.md section 8)
BEEP = "tone_stream://v=-14;%(500,0,1000)"  # speak now
PLEASE_HOLD = "tone_stream://v=-20;%(150,100,440);%(150,0,554)"
GONE = "is not there"  # as `PromptBook.problem` says
MAX_LOOKED_AT = 10_000  # sounds that are remembered; a flow of 2,000 steps in three languages has 6,000
PROMPT_GONE = PLEASE_HOLD  # in place of a prompt whose file was taken away since the start

ENGINE_SECONDS = 60  # for one text of at most 2000 characters; espeak-ng takes 0.1
TEXT_CHARS_PER_SECOND = 14  # espeak-ng's usual pace
_WAV_HEADER_BYTES = 44  # a file of no more has no sound in it


@dataclass(frozen=True, slots=True)
class Wanted:
    """A prompt that the configuration names. `where` is its place: `acme: flows.main.steps.welcome.greeting`."""

    where: str
    prompt: Prompt
    path: Path


@dataclass(slots=True)
class Report:
    """What a build did."""

    made: list[Wanted] = field(default_factory=list)
    kept: int = 0  # files that were there
    absent: list[Wanted] = field(default_factory=list)  # `play` files: only a person can bring them


class PromptBook:
    """Finds and renders the prompts of a configuration."""

    def __init__(self, prompts: Prompts) -> None:
        self._prompts = prompts
        self._looked_at: dict[str, tuple[tuple[int, int, int], str]] = {}  # by file: what it was, and why it is no sound

    def path(self, prompt: Prompt) -> Path:
        """The prompt's WAV, absolute and without `..`, which the switch is never given; whether it is there or not."""
        return Path(self.file(prompt))

    def file(self, prompt: Prompt) -> str:
        """The same as text, for who asks at each play (config/promptpath.prompt_file)."""
        return os.path.realpath(prompt_file(self._prompts, prompt))

    def sound(self, prompt: Prompt) -> str:
        """What the switch shall play: the file, or a short tone if it is gone since the start or is no sound (`problem`).

        FreeSWITCH asks for no key where it cannot open a sound, and a ringback would be silence, so each play looks first.
        """
        return PROMPT_GONE if self.problem(prompt) else self.file(prompt)

    def problem(self, prompt: Prompt) -> str:
        """Why the prompt's file cannot be played; empty if nothing is known against it. A file that has not changed is not
        read again."""
        file = self.file(prompt)
        try:
            status = os.stat(file)
        except OSError:
            return GONE
        if not stat.S_ISREG(status.st_mode) or status.st_size <= _WAV_HEADER_BYTES:
            return GONE
        seen = (status.st_mtime_ns, status.st_size, status.st_ino)
        known = self._looked_at.get(file)
        if known is None or known[0] != seen:
            if len(self._looked_at) >= MAX_LOOKED_AT:
                self._looked_at.clear()
            known = self._looked_at[file] = (seen, why_no_sound(file))
        return known[1]

    def problem_of(self, prompts: Iterable[Prompt]) -> str:
        """That of the first which has one."""
        return next((problem for prompt in prompts if (problem := self.problem(prompt))), "")

    def wanted(self, config: Config) -> list[Wanted]:
        """Every prompt of every account, each file once, in the configuration's order."""
        found: dict[Path, Wanted] = {}
        seen: set[Prompt] = set()  # each value of a kind needs the same hundreds of blocks
        for account_id, account in config.accounts.items():
            if (first := account.fallback.spoken(account.language)) is not None:
                path = self.path(first)
                found.setdefault(path, Wanted(f"{account_id}: fallback", first, path))
            languages = account.languages
            for flow_id, flow in account.flows.items():
                for where, written in _prompts_in(flow, f"{account_id}: flows.{flow_id}", languages):
                    for prompt in rendered(written.variants(account.language), account):
                        if prompt not in seen:
                            seen.add(prompt)
                            path = self.path(prompt)
                            found.setdefault(path, Wanted(where, prompt, path))
        return list(found.values())

    def missing(self, config: Config) -> list[Wanted]:
        """The prompts without a sound file."""
        return [wanted for wanted in self.wanted(config) if not _has_sound(wanted.path)]

    def build(
        self, config: Config, only_missing: bool = True, progress: Callable[[Wanted, float], None] | None = None
    ) -> Report:
        """Renders the texts that have no file (or all); `progress` gets each file made and its seconds of sound.

        Raises PromptError if the engine is absent or fails; what was made until then stays.
        """
        report = Report()
        for wanted in self.wanted(config):
            there = _has_sound(wanted.path)
            if wanted.prompt.play is not None and not there:
                report.absent.append(wanted)
            elif there and (only_missing or wanted.prompt.play is not None):
                report.kept += 1
            else:
                self.render(wanted)
                report.made.append(wanted)
                if progress is not None:
                    progress(wanted, self.seconds(wanted.path))
        return report

    def render(self, wanted: Wanted) -> None:
        """Makes one file, and beside it `<name>.txt` with the text. Both appear whole or not at all. Raises PromptError."""
        text, target = str(wanted.prompt.say), wanted.path
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".making-", dir=target.parent) as folder:
                raw, made, note = (Path(folder) / name for name in ("raw.wav", "made.wav", "made.txt"))
                _speak(self._prompts, wanted.prompt, raw, wanted.where)
                samples = _telephone_sound(raw, wanted.where)
                samples = linesound.without_silence(samples) if isinstance(wanted.prompt, Block) else samples
                made.write_bytes(linesound.wav(samples.tobytes()))
                note.write_text(text, encoding="utf-8")
                os.replace(note, target.with_suffix(".txt"))
                os.replace(made, target)  # last: whoever sees the WAV finds its text
        except OSError as problem:
            raise PromptError(f"{target}: cannot be written: {problem}; let this user write into prompts.folder") from problem

    def speak(self, prompt: Prompt, seconds: float) -> bytes:
        """The WAV of a text that is known only during a call. Engine and line's sound are processes of their own: within gevent
        nothing blocks. Raises PromptError, also if it takes longer than `seconds`."""
        until = time.monotonic() + seconds
        where = "during a call"
        with tempfile.TemporaryDirectory(prefix="exoflow-speak-") as folder:
            raw, made = (Path(folder) / name for name in ("raw.wav", "made.wav"))
            _speak(self._prompts, prompt, raw, where, seconds)
            if self._prompts.engine == "text":
                return raw.read_bytes()
            argv = [sys.executable, "-I", "-S", linesound.__file__, str(raw), str(made)]
            _run(argv, "", where, max(0.0, until - time.monotonic()))
            return made.read_bytes()

    def rendered(self, prompt: Prompt) -> Path | None:
        """The prompt's file, if it is there: a CRM may say what a step says, too."""
        path = self.path(prompt)
        return path if _has_sound(path) else None

    def seconds(self, path: Path | str) -> float:
        """Length of a sound file. Raises PromptError if it is no WAV."""
        try:
            with wave.open(str(path)) as sound:
                return float(sound.getnframes() / sound.getframerate())
        except (OSError, EOFError, wave.Error) as problem:
            raise PromptError(f"{path}: not a readable WAV file: {problem}") from problem


def _has_sound(path: Path | str) -> bool:
    try:
        there = os.stat(path)
        return stat.S_ISREG(there.st_mode) and there.st_size > _WAV_HEADER_BYTES
    except OSError:
        return False


def _prompts_in(model: BaseModel, where: str, languages: Sequence[str]) -> Iterator[tuple[str, Prompt]]:
    """All prompts within a part of the configuration, whatever applets there are: those with a prompt inside included."""
    if isinstance(model, Prompt):
        yield where, model
    if isinstance(model, Step):
        yield from ((f"{where}.{model.applet}", block) for block in model.spoken(languages))
    for name in type(model).model_fields:
        value = getattr(model, name)
        children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else [("", value)]
        for key, child in children:
            if isinstance(child, BaseModel):
                yield from _prompts_in(child, ".".join(filter(None, (where, name, str(key)))), languages)


# --- engines ------------------------------------------------------------------------------------


def _telephone_sound(wav: Path, where: str) -> array[int]:
    try:
        return linesound.telephone_sound(wav)
    except ValueError as problem:
        raise PromptError(f"{where}: the engine wrote {problem}; it must write 16-bit PCM") from None


def _speak(prompts: Prompts, prompt: Prompt, wav: Path, where: str, seconds: float | None = None) -> None:
    """Lets the configured engine write `wav`, in whatever rate it likes, with the voice of the prompt's language."""
    seconds = ENGINE_SECONDS if seconds is None else seconds
    engine, voice, text = prompts.engine, prompts.voice_of(prompt.language), str(prompt.say)
    if engine is None:
        raise PromptError(
            f"{where}: no engine to speak {_short(text)} with; set `prompts: {{engine: espeak-ng}}` in the main file, "
            "or give a recorded file with `play`"
        )
    if engine == "text":
        seconds = max(1.0, len(text) / TEXT_CHARS_PER_SECOND)
        wav.write_bytes(linesound.wav(bytes(2 * int(seconds * linesound.RATE))))
    elif engine == "espeak-ng":
        # the text goes in by stdin: as an argument, "-5 degrees" would be an option
        _run(["espeak-ng", "-b", "1", "-v", voice, "-w", str(wav), "--stdin"], text, where, seconds)
    else:
        told = {"{wav}": str(wav), "{voice}": voice, "{text}": text}
        argv = [re.sub("|".join(told), lambda found: told[found[0]], part) for part in shlex.split(engine)]
        _run(argv, "", where, seconds)
    if not _has_sound(wav):
        raise PromptError(f"{where}: the engine `{engine}` made no sound of {_short(text)}; try it by hand")


def _run(argv: list[str], stdin: str, where: str, seconds: float) -> None:
    """One run of an engine, without a shell."""
    try:
        done = subprocess.run(argv, input=stdin.encode(), capture_output=True, timeout=seconds, check=False)
    except FileNotFoundError:
        cure = "apt install espeak-ng" if argv[0] == "espeak-ng" else "install it, or correct prompts.engine"
        raise PromptError(
            f"{where}: the engine `{argv[0]}` is not on this machine; {cure} (`engine: text` makes silence, for trying flows)"
        ) from None
    except subprocess.TimeoutExpired:
        raise PromptError(f"{where}: the engine `{argv[0]}` was not done within {seconds:.3g} s; try it by hand") from None
    except (OSError, ValueError) as problem:
        raise PromptError(f"{where}: the engine `{argv[0]}` cannot be run: {problem}") from problem
    if done.returncode != 0:
        said = (done.stderr or done.stdout).decode("utf-8", "replace").strip()[-300:] or "nothing"
        raise PromptError(f"{where}: the engine `{argv[0]}` failed ({done.returncode}) and said: {said}")


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:39] + "…")
