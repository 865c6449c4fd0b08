"""No caller ever meets a missing prompt: texts that can be spoken, files that are there."""

from __future__ import annotations

import os
import pwd
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from exoflow.characters import switch_takes_path
from exoflow.config.checks.paths import TAKEN
from exoflow.config.draft import Draft, prompts_of
from exoflow.config.findings import Finding
from exoflow.config.model import Account, Prompts
from exoflow.config.promptpath import prompt_path
from exoflow.config.spoken_texts import needs_engine, rendered
from exoflow.config.stepbase import Block, Prompt, PromptOrUrl, Step
from exoflow.config.yaml12 import Document
from exoflow.soundfiles import first_closed, why_no_sound

OWN_ENGINES = ("espeak-ng", "text")


def check(draft: Draft) -> Iterator[Finding]:
    prompts = None if draft.main is None else draft.main.prompts
    if prompts is not None:
        yield from _engine(prompts, draft)
    missing: set[str] = set()
    seen: set[Prompt] = set()  # blocks that need no further look: each value of a kind needs the same hundreds
    for account in draft.accounts:
        run, languages = account.as_run(), account.account.languages
        for flow, name, step in account.steps_as_run():
            settings = getattr(step, step.applet)
            if prompts is not None and prompts.engine is None and isinstance(settings, PromptOrUrl) and settings.urls:
                message = (
                    "a text that the CRM gives could not be spoken; write `prompts: {engine: espeak-ng}` into the main file"
                )
                yield account.document.at("W609", message, "flows", flow, "steps", name, step.applet, "url")
            if prompts is not None and prompts.engine is None:
                yield from (account.document.at("W609", *told) for told in _without_engine(flow, name, step, run, languages))
            for inner, prompt in _single(step, run, languages):
                if prompt in seen:
                    continue
                where = ("flows", flow, "steps", name, *inner)
                if isinstance(prompt.play, str):
                    if not os.path.isfile(prompt.play):
                        message = f"no such sound file: {prompt.play}; relative paths start at the folder of this file"
                        yield account.document.at("E602", message, *where)
                    elif why := why_no_sound(prompt.play):
                        message = f"{os.path.normpath(prompt.play)} {why}; bring a sound, best a WAV of 8 kHz, 16 bit, mono"
                        yield account.document.at("W611", message, *where)
                    if os.path.isfile(prompt.play) and not switch_takes_path(os.path.realpath(prompt.play)):
                        message = f"`{os.path.realpath(prompt.play)}`: {TAKEN}; rename the file or its folder"
                        yield account.document.at("E610", message, *where)
                elif prompts is not None and not os.path.isfile(path := prompt_path(prompts, prompt)):
                    missing.add(str(path))
                    if prompts.engine is None:
                        message = (
                            "nothing can speak this text: write `prompts: {engine: espeak-ng}` into the main file, "
                            f"or put a recording at {path}"
                        )
                        yield account.document.at("E601", message, *where)
                        continue
                if isinstance(prompt, Block):
                    seen.add(prompt)
    if missing and prompts is not None and prompts.engine is not None:
        many = f"{len(missing)} prompts are" if len(missing) > 1 else "1 prompt is"
        message = f"{many} not rendered yet; run `exoflow prompts build`"
        yield draft.main_document.at("W603", message, "prompts", key=True)
    yield from _closed(draft)


def _without_engine(flow: str, name: str, step: Step, account: Account, languages: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    """Message and place of texts with values that only an engine can speak."""
    for inner, prompt in prompts_of(step, languages):
        for one in prompt.variants(account.language):
            if names := needs_engine(one, account):
                message = (
                    f"a text as the value of {', '.join(names)} could not be spoken; write `prompts: {{engine: espeak-ng}}` "
                    "into the main file"
                )
                yield (message, "flows", flow, "steps", name, *inner, "say")


def _closed(draft: Draft) -> Iterator[Finding]:
    """Folders and files on the way to a sound that FreeSWITCH's user may not enter or read. The user is the owner of the folder
    of recordings, which FreeSWITCH writes."""
    if draft.main is None or (user := _writer_of(draft.main.switch.recordings)) is None:
        return
    uid, groups = user
    folder = (draft.main_document, ("prompts", "folder"))
    files: dict[str, tuple[Document, tuple[str | int, ...]]] = {str(draft.main.prompts.folder): folder}
    for account in draft.accounts:
        for flow, name, step in account.steps_as_run():
            for inner, prompt in prompts_of(step, ()):
                if isinstance(prompt.play, str):
                    where = ("flows", flow, "steps", name, *inner, "play")
                    files.setdefault(prompt.play, (account.document, where))
    for file, (document, where) in files.items():
        try:
            closed = first_closed(file, uid, groups)
        except OSError:
            continue  # it is not there, and another finding says so
        if closed:
            message = f"FreeSWITCH's user (uid {uid}) may not enter or read {closed}; callers would hear a tone"
            yield document.at("W612", message, *where)


def _writer_of(folder: Path) -> tuple[int, frozenset[int]] | None:
    """Another user than this one whose folder it is, with that user's groups; None if there is none."""
    try:
        uid = os.stat(folder).st_uid
        if uid in (0, os.geteuid()):
            return None
        known = pwd.getpwuid(uid)
        return uid, frozenset(os.getgrouplist(known.pw_name, known.pw_gid))
    except (OSError, KeyError):
        return None


def _single(step: Step, account: Account, languages: Sequence[str]) -> Iterator[tuple[tuple[str | int, ...], Prompt]]:
    """The step's prompts, each in each of its languages, with the blocks of the values in their texts."""
    for inner, prompt in prompts_of(step, languages):
        source = "say" if prompt.play is None else "play"
        for one in prompt.variants(languages[0]):
            where = (*inner, source, *([one.language] if prompt.languages and one.language else []))
            yield from ((where, part) for part in rendered([one], account))


def _engine(prompts: Prompts, draft: Draft) -> Iterator[Finding]:
    if prompts.engine is None or prompts.engine in OWN_ENGINES:
        return
    try:
        words = shlex.split(prompts.engine)
    except ValueError:
        words = []
    if "{text}" not in words or not any("{wav}" in word for word in words):
        message = (
            f"the engine `{prompts.engine}` is none of {', '.join(OWN_ENGINES)}, and as a command it needs "
            "{text} and {wav}, e.g. `pico2wave -w {wav} {text}`"
        )
        yield draft.main_document.at("E604", message, "prompts", "engine")
