"""What a file argument sounds like: its length in seconds and what a phone's owner would write down of it. No audio is made."""

from __future__ import annotations

import re
import wave
from dataclasses import dataclass
from pathlib import Path

ENDLESS = float("inf")
_PREFIX = re.compile(r"^\{([^}]*)\}")
_TONE = re.compile(r"%\(([^)]*)\)")
_LOOPS = re.compile(r"\bloops=(-?\d+)|\bL=(-?\d+)")


@dataclass(frozen=True)
class Sound:
    """`text` is the prompt's text if a sidecar tells it, else the file's name or the tone. `file` is empty for tones."""

    seconds: float
    text: str
    file: str = ""


class NoSound(Exception):
    """The argument names nothing that can be played."""


def sounds_of(argument: str, loops: int = 1) -> list[Sound]:
    """The sounds of a playback argument, one after the other. Raises NoSound when nothing of it can be opened."""
    argument = argument.split("@@", 1)[0]
    if found := _PREFIX.match(argument):
        argument = argument[found.end() :]
        if inner := _LOOPS.search(found[1]):
            loops = int(inner[1] or inner[2])
    if argument.startswith("file_string://"):
        return _file_string(argument.removeprefix("file_string://"))
    if argument.startswith("tone_stream://"):
        return [_tone(argument.removeprefix("tone_stream://"), loops)]
    if argument.startswith("silence_stream://"):
        milliseconds = argument.removeprefix("silence_stream://").split(",", 1)[0]
        number = int(milliseconds) if milliseconds.lstrip("-").isdigit() else 0
        return [Sound(ENDLESS if number <= 0 else number / 1000, "silence")]
    if argument.startswith("local_stream://"):
        return [Sound(ENDLESS, "hold music " + argument.removeprefix("local_stream://"))]
    return [_wav(argument)]


def _file_string(names: str) -> list[Sound]:
    """Files joined by `!`; one that cannot be opened is passed over (mod_dptools.c next_file)."""
    found: list[Sound] = []
    for name in names.split("!"):
        try:
            found.extend(sounds_of(name))
        except NoSound:
            continue
    if not found:
        raise NoSound(names)
    return found


def _tone(script: str, loops: int) -> Sound:
    """TGML: `%(on ms, off ms, frequencies)`, several by `;`, `loops=N` or `L=N` in front or behind; -1 is for ever."""
    if given := _LOOPS.search(script):
        loops = int(given[1] or given[2])
    once = 0.0
    for tone in _TONE.finditer(script):
        numbers = [part.strip() for part in tone[1].split(",")]
        once += sum(float(n) for n in numbers[:2] if re.fullmatch(r"\d+(\.\d+)?", n)) / 1000
    if not once:
        raise NoSound(script)
    return Sound(ENDLESS if loops < 0 else once * max(1, loops), f"tone {script}")


def _wav(name: str) -> Sound:
    path = Path(name)
    try:
        seconds = wav_seconds(path)
    except (OSError, EOFError, wave.Error) as e:
        raise NoSound(name) from e
    sidecar = path.with_suffix(".txt")
    try:
        text = sidecar.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        text = path.name
    return Sound(seconds, text, name)


def wav_seconds(path: Path) -> float:
    with wave.open(str(path), "rb") as sound:
        return sound.getnframes() / sound.getframerate()
