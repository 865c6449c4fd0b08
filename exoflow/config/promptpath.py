"""Where a prompt's sound file lies. Pure rule, no I/O: the checks, `exoflow prompts build` and the flow all ask here."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from exoflow.config.model import Prompts
from exoflow.config.stepbase import Block
from exoflow.config.steps import Prompt

NAME_HEX_DIGITS = 24  # 96 bits: no two texts meet, and a folder listing stays readable


def prompt_path(prompts: Prompts, prompt: Prompt) -> Path:
    """The WAV that a caller hears for this prompt."""
    return Path(prompt_file(prompts, prompt))


def prompt_file(prompts: Prompts, prompt: Prompt) -> str:
    """Its name with its folders, for who asks for each play: a `Path` would intern them (calls/cdr.path_of).

    `play` is the file itself. `say` is content-addressed: engine, voice and text name the file, so that a changed
    text is a new file and an unchanged one is never rendered again. Without an engine the name is made from voice and
    text alone, and a recording put there by hand serves. The prompt is a single one (Prompt.spoken_in).
    """
    if isinstance(prompt.play, str):
        return prompt.play
    if not isinstance(prompt.say, str):
        raise TypeError("a prompt in several languages has several files; ask for those of its `variants`")
    content = "\0".join((prompts.engine or "", prompts.voice_of(prompt.language), prompt.say))
    if isinstance(prompt, Block):
        content += "\0block"  # the same word as a greeting sounds otherwise
    return os.path.join(prompts.folder, f"{hashlib.sha256(content.encode()).hexdigest()[:NAME_HEX_DIGITS]}.wav")
