"""Prompts in several languages: which text or file a caller hears, and which voice makes it."""

from __future__ import annotations

import json
import sys
import wave
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from exoflow.config.load import Loaded, load
from exoflow.config.model import Prompts
from exoflow.config.promptpath import prompt_path
from exoflow.config.stepbase import Block
from exoflow.config.steps import Prompt
from exoflow.linesound import wav
from exoflow.prompts import PromptBook

BOTH = {"say": {"en": "Hello.", "hi": "नमस्ते।"}}


def prompt(**what: Any) -> Prompt:
    return Prompt.model_validate(what)


@pytest.mark.parametrize(
    ("written", "language", "heard", "spoken"),
    [
        (BOTH, "hi", "नमस्ते।", "hi"),
        (BOTH, "en", "Hello.", "en"),
        (BOTH, "ta", "Hello.", "en"),  # the account's
        ({"say": "Hello."}, "hi", "Hello.", "en"),
        ({"say": "Bonjour.", "language": "fr"}, "hi", "Bonjour.", "fr"),
        ({"say": {"hi": "नमस्ते।"}}, "ta", "नमस्ते।", "en"),  # refused by the check, and still no silence
    ],
)
def test_what_a_caller_hears(written: dict[str, Any], language: str, heard: str, spoken: str) -> None:
    chosen = prompt(**written).spoken_in(language, "en")
    assert (chosen.say, chosen.language) == (heard, spoken)


def test_each_language_is_a_file_of_its_own() -> None:
    prompts = Prompts(engine="espeak-ng", voices={"hi": "hi"})
    paths = [prompt_path(prompts, one) for one in prompt(**BOTH).variants("en")]
    assert len(set(paths)) == 2
    assert prompt_path(prompts, prompt(say="x", language="hi")) != prompt_path(prompts, prompt(say="x"))
    # a language without a voice of its own is no new file
    assert prompt_path(prompts, prompt(say="x", language="ta")) == prompt_path(prompts, prompt(say="x"))
    with pytest.raises(TypeError):
        prompt_path(prompts, prompt(**BOTH))


@pytest.mark.parametrize(
    "wrong",
    [{"say": {}}, {"say": {"en": ""}}, {"say": {"english": "x"}}, {"say": {"en": "x"}, "play": "y.wav"}, {"play": {"en": 1}}],
)
def test_what_is_no_prompt(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Prompt.model_validate(wrong)


def configured(folder: Path, engine: str, *greetings: dict[str, Any], **account: Any) -> Loaded:
    (folder / "accounts").mkdir()
    main = {"engine": engine, "folder": str(folder / "prompts"), "voices": {"hi": "hi-female"}}
    trunks = {"PRI1": {"span": "PRI1"}}
    (folder / "exoflow.yaml").write_text(
        json.dumps({"switch": {"event_socket": {"password": "x"}}, "prompts": main, "trunks": trunks})
    )
    steps = {"hello": {"greeting": list(greetings), "next": "bye"}, "bye": {"hangup": {}}}
    flows = {"main": {"start": "hello", "steps": steps}}
    numbers = [{"number": "+918030752400", "trunk": "PRI1", "flow": "main"}]
    (folder / "accounts/acme.yaml").write_text(json.dumps({"name": "Acme", "numbers": numbers, "flows": flows, **account}))
    return load(folder / "exoflow.yaml", {})


def test_files_by_language_lie_beside_the_accounts_file(tmp_path: Path) -> None:
    (tmp_path / "accounts").mkdir()
    (tmp_path / "accounts/hello.wav").write_bytes(wav(bytes(160)))
    (tmp_path / "accounts").rename(tmp_path / "sounds")
    loaded = configured(tmp_path, "text", {"play": {"en": "../sounds/hello.wav", "hi": "../sounds/namaste.wav"}})
    [missing] = loaded.errors
    assert missing.code == "E602"
    assert "namaste.wav" in missing.message


def test_the_engine_speaks_each_text_with_its_languages_voice(tmp_path: Path) -> None:
    """The engine here writes its voice's name as the sound's length."""
    engine = tmp_path / "engine.py"
    engine.write_text(
        "import sys, wave\n"
        "voice, text, path = sys.argv[1:]\n"
        "with wave.open(path, 'wb') as sound:\n"
        "    sound.setparams((1, 2, 8000, 0, 'NONE', ''))\n"
        "    sound.writeframes(bytes(2 * 100 * len(voice + text)))\n"
    )
    command = f"{sys.executable} {engine} {{voice}} {{text}} {{wav}}"
    config = configured(tmp_path, command, BOTH, {"say": "{{wav}}", "language": "hi"}).config
    assert config is not None
    book = PromptBook(config.prompts)
    book.build(config)
    lengths = {}
    for wanted in book.wanted(config):
        with wave.open(str(wanted.path)) as sound:
            lengths[wanted.prompt.say] = sound.getnframes()
    # what looks like an argument in a text stays text
    assert lengths == {
        "Hello.": 100 * len("en-in" + "Hello."),
        "नमस्ते।": 100 * len("hi-female" + "नमस्ते।"),
        "{wav}": 100 * len("hi-female" + "{wav}"),
    }


def test_values_are_rendered_in_every_language_that_callers_can_choose(tmp_path: Path) -> None:
    steps = {
        "hindi": {"language": {"to": "hi"}, "next": "tell"},
        "tell": {"say_value": {"value": 1, "as": "digits"}, "next": "bye"},
        "bye": {"hangup": {}},
    }
    config = configured(tmp_path, "text", {"say": "x"}, flows={"main": {"start": "hindi", "steps": steps}}).config
    assert config is not None
    wanted = PromptBook(config.prompts).wanted(config)
    said = {(one.prompt.language, one.prompt.say) for one in wanted}
    assert len(wanted) == len(said) == 24
    assert {("en", "seven"), ("hi", "सात"), ("hi", "हैश")} <= said
    assert next(one.path for one in wanted if one.prompt.say == "सात") == prompt_path(
        config.prompts, Block(say="सात", language="hi")
    )


def test_the_accounts_language_is_that_of_plain_texts(tmp_path: Path) -> None:
    config = configured(tmp_path, "text", {"say": "नमस्ते।"}, language="hi").config
    assert config is not None
    book = PromptBook(config.prompts)
    assert [wanted.prompt.language for wanted in book.wanted(config)] == ["hi"]
    assert book.wanted(config)[0].path == prompt_path(config.prompts, prompt(say="नमस्ते।", language="hi"))
