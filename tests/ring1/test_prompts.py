"""Prompts: found, rendered whole or not at all, never missing in a call; and the commands."""

from __future__ import annotations

import math
import shlex
import shutil
import stat
import sys
import wave
from array import array
from pathlib import Path

import pytest
from click.testing import CliRunner

from exoflow.cli import main
from exoflow.config.model import Account, Config, Prompts, Switch
from exoflow.config.steps import Prompt
from exoflow.errors import PromptError
from exoflow.prompts import PROMPT_GONE, PromptBook

WRITER = """
import sys, wave
text, path, rate, channels, width = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:])
with wave.open(path, "wb") as sound:
    sound.setnchannels(channels); sound.setsampwidth(width); sound.setframerate(rate)
    sound.writeframes(bytes(len(text) * rate // 10 * channels * width))
"""


def account(**steps) -> Account:
    return Account.model_validate({"name": "Acme", "flows": {"main": {"start": next(iter(steps)), "steps": steps}}})


def config(tmp_path: Path, *, engine: str | None = "text", **steps) -> Config:
    steps = steps or {"welcome": {"greeting": {"say": "Welcome."}, "next": "bye"}, "bye": {"hangup": {}}}
    return Config(
        base=tmp_path,
        switch=Switch(),
        store="sqlite://",
        prompts=Prompts(engine=engine, folder=tmp_path / "prompts"),
        trunks={},
        accounts={"acme": account(**steps)},
    )


def engine(tmp_path: Path, *, rate: int = 22050, channels: int = 1, width: int = 2, code: str = WRITER) -> str:
    """A command line that speaks: silence of a tenth of a second a character."""
    script = tmp_path / "engine.py"
    script.write_text(code)
    return f"{shlex.quote(sys.executable)} {script} {{text}} {{wav}} {rate} {channels} {width}"


def test_every_prompt_of_every_applet_is_found_once(tmp_path):
    given = config(
        tmp_path,
        a={"greeting": {"say": "Hello."}, "next": "b"},
        b={"menu": {"say": "Dial 1.", "wrong_key": {"say": "Wrong."}, "no_input": {"say": "Nothing."}},
           "keys": {1: "c"}, "otherwise": "d"},
        c={"passthru": {"url": "http://h/pt", "hold": {"say": "One moment."}}, "ok": "d", "redirect": "d"},
        d={"connect": {"url": "http://h/ag", "hold": {"say": "One moment."}, "ringback": {"play": "/music.wav"}},
           "answered": "f", "unanswered": "e"},
        e={"voicemail": {"say": "Speak."}, "next": "f"},
        f={"hangup": {}},
    )  # fmt: skip
    wanted = PromptBook(given.prompts).wanted(given)
    assert [(one.where.removeprefix("acme: flows.main.steps."), one.prompt.say or one.prompt.play) for one in wanted] == [
        ("a.greeting", "Hello."),
        ("b.menu", "Dial 1."),
        ("b.menu.wrong_key", "Wrong."),
        ("b.menu.no_input", "Nothing."),
        ("c.passthru.hold", "One moment."),
        ("d.connect.ringback", "/music.wav"),
        ("e.voicemail", "Speak."),
    ]


def _files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def _is_telephone_wav(path: Path) -> float:
    with wave.open(str(path)) as sound:
        assert (sound.getframerate(), sound.getnchannels(), sound.getsampwidth()) == (8000, 1, 2)
        return sound.getnframes() / 8000


def test_build_makes_the_file_its_text_and_nothing_twice(tmp_path):
    given = config(tmp_path)
    book, prompt = PromptBook(given.prompts), Prompt(say="Welcome.")
    assert [one.path for one in book.missing(given)] == [book.path(prompt)]
    told = []
    report = book.build(given, progress=lambda wanted, seconds: told.append((wanted.where, seconds)))
    assert [one.where for one in report.made] == ["acme: flows.main.steps.welcome.greeting"]
    assert told == [("acme: flows.main.steps.welcome.greeting", book.seconds(book.path(prompt)))]
    path = book.path(prompt)
    assert path.is_absolute()
    assert _is_telephone_wav(path) >= 1
    assert path.with_suffix(".txt").read_text() == "Welcome."
    assert _files(path.parent) == sorted([path.name, path.with_suffix(".txt").name])
    assert path.stat().st_mode & stat.S_IROTH, "FreeSWITCH runs as another user"
    before = path.stat().st_mtime_ns
    assert (book.build(given).made, book.build(given).kept) == ([], 1)
    assert path.stat().st_mtime_ns == before
    assert len(book.build(given, only_missing=False).made) == 1
    assert book.missing(given) == []


def test_a_changed_text_or_voice_is_another_file(tmp_path):
    book = PromptBook(Prompts(engine="text", folder=tmp_path))
    other = PromptBook(Prompts(engine="text", voice="hi", folder=tmp_path))
    prompt = Prompt(say="Welcome.")
    assert len({book.path(prompt), book.path(Prompt(say="Welcome!")), other.path(prompt)}) == 3


def test_a_prompt_taken_away_is_a_tone_and_never_a_missing_file(tmp_path):
    given = config(tmp_path)
    book, prompt = PromptBook(given.prompts), Prompt(say="Welcome.")
    assert book.sound(prompt) == PROMPT_GONE
    book.build(given)
    assert book.sound(prompt) == str(book.path(prompt))
    book.path(prompt).write_bytes(b"RIFF")  # cut short
    assert book.sound(prompt) == PROMPT_GONE
    assert len(book.build(given).made) == 1


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 24000, 44100, 48000])
@pytest.mark.parametrize("channels", [1, 2])
def test_whatever_an_engine_writes_becomes_telephone_sound(tmp_path, rate, channels):
    given = config(tmp_path, engine=engine(tmp_path, rate=rate, channels=channels))
    book = PromptBook(given.prompts)
    book.build(given)
    assert _is_telephone_wav(book.path(Prompt(say="Welcome."))) == pytest.approx(0.8, abs=0.001)


def _level(samples: array[int], hertz: float) -> float:
    """Amplitude of one frequency at 8 kHz, by Goertzel's sum."""
    turn = 2 * math.pi * hertz / 8000
    re = sum(s * math.cos(turn * n) for n, s in enumerate(samples))
    im = sum(s * math.sin(turn * n) for n, s in enumerate(samples))
    return 2 * math.hypot(re, im) / len(samples)


@pytest.mark.parametrize("rate", [16000, 22050, 44100])
def test_resampling_keeps_speech_and_removes_what_would_fold_back(tmp_path, rate):
    from exoflow.linesound import resampled

    def tone(hertz: float) -> array[int]:
        made = resampled(array("h", (round(10000 * math.sin(2 * math.pi * hertz * n / rate)) for n in range(rate // 4))), rate)
        return made[200:-200]

    for hertz in (300, 1000, 3000):
        assert _level(tone(hertz), hertz) == pytest.approx(10000, rel=0.01)
    for hertz in (5000, 6500):
        assert max(map(abs, tone(hertz))) < 10000 / 10 ** (40 / 20)  # 40 dB down


def test_loud_sound_is_clipped_not_wrapped():
    from exoflow.linesound import resampled

    square = array("h", ([32767] * 40 + [-32768] * 40) * 50)
    made = resampled(square, 22050)
    assert (max(made), min(made)) == (32767, -32768)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (None, "set `prompts: {engine: espeak-ng}`"),
        ("no-such-engine {text} {wav}", "not on this machine; install it"),
        ("false {text} {wav}", "failed (1)"),
        ("true {text} {wav}", "made no sound"),
        ("sh -c 'echo no voice >&2; exit 3'", "failed (3) and said: no voice"),
        ("sh -c 'head -c 1000 /dev/zero > $0' {wav}", "no PCM WAV"),
    ],
)
def test_an_engine_that_fails_is_told_with_its_cure_and_leaves_nothing(tmp_path, line, told):
    given = config(tmp_path, engine=line)
    book = PromptBook(given.prompts)
    with pytest.raises(PromptError) as caught:
        book.build(given)
    assert told in str(caught.value)
    assert "acme: flows.main.steps.welcome.greeting" in str(caught.value)
    assert _files(tmp_path / "prompts") == []


def test_eight_bit_sound_is_refused(tmp_path):
    given = config(tmp_path, engine=engine(tmp_path, width=1))
    with pytest.raises(PromptError, match="8-bit sound; it must write 16-bit"):
        PromptBook(given.prompts).build(given)


@pytest.mark.parametrize(("rate", "channels"), [(8000, 1), (22050, 1), (44100, 2)])
def test_a_text_that_comes_during_a_call_is_spoken(tmp_path, rate, channels):
    book = PromptBook(config(tmp_path, engine=engine(tmp_path, rate=rate, channels=channels)).prompts)
    spoken = tmp_path / "spoken.wav"
    spoken.write_bytes(book.speak(Prompt(say="Good morning, Mr Rao."), 20))
    assert _is_telephone_wav(spoken) == pytest.approx(2.1, abs=0.001)
    assert not (tmp_path / "prompts").exists()


def test_a_text_that_comes_during_a_call_has_its_time(tmp_path):
    book = PromptBook(config(tmp_path, engine="sleep 30").prompts)
    with pytest.raises(PromptError, match=r"not done within 0\.2 s"):
        book.speak(Prompt(say="Good morning."), 0.2)


def test_an_engine_that_hangs_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr("exoflow.prompts.ENGINE_SECONDS", 0.2)
    given = config(tmp_path, engine="sleep 30")
    with pytest.raises(PromptError, match=r"not done within 0\.2 s"):
        PromptBook(given.prompts).build(given)


@pytest.mark.parametrize("text", ["-5 degrees; `id` $(id) | id", "'\"\\ {wav} {text}", "नमस्ते", "a\nb"])
def test_a_text_reaches_the_engine_as_it_is(tmp_path, text):
    code = "import sys, pathlib\npathlib.Path(sys.argv[0]).with_name('got').write_text(sys.argv[1])\n" + WRITER
    given = config(tmp_path, engine=engine(tmp_path, code=code), a={"voicemail": {"say": text}, "next": "b"}, b={"hangup": {}})
    PromptBook(given.prompts).build(given)
    assert (tmp_path / "got").read_text() == text


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "prompts").write_text("a file")
    with pytest.raises(PromptError, match="cannot be written"):
        PromptBook(config(tmp_path).prompts).build(config(tmp_path))


def test_a_play_file_is_taken_as_it_is_and_told_when_absent(tmp_path):
    sound = tmp_path / "hello.wav"
    given = config(tmp_path, a={"greeting": {"play": str(sound)}, "next": "b"}, b={"hangup": {}})
    book = PromptBook(given.prompts)
    report = book.build(given)
    assert [one.path for one in report.absent] == [sound]
    assert not sound.exists()
    sound.write_bytes(bytes(100))
    assert (book.build(given, only_missing=False).kept, book.missing(given)) == (1, [])
    with pytest.raises(PromptError, match="not a readable WAV"):
        book.seconds(sound)


@pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not installed here")
@pytest.mark.parametrize("text", ["Dial 1 for support.", "-5 degrees"])
def test_espeak_ng_speaks(tmp_path, text):
    given = config(tmp_path, engine="espeak-ng", a={"voicemail": {"say": text}, "next": "b"}, b={"hangup": {}})
    book = PromptBook(given.prompts)
    book.build(given)
    path = book.path(Prompt(say=text))
    assert 0.5 < _is_telephone_wav(path) < 5
    with wave.open(str(path)) as sound:
        assert max(array("h", sound.readframes(sound.getnframes()))) > 3000


# --- the commands -----------------------------------------------------------------------------------

ACCOUNT = """
name: Acme
numbers:
  - {number: "+918030752400", trunk: PRI1, flow: main}
flows:
  main:
    start: welcome
    steps:
      welcome: {greeting: {say: "Welcome to Acme."}, next: bye}
      bye: {hangup: {}}
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "accounts").mkdir()
    (tmp_path / "accounts" / "acme.yaml").write_text(ACCOUNT)

    def write(engine: str) -> Path:
        path = tmp_path / "exoflow.yaml"
        path.write_text(
            "switch: {event_socket: {password: secret-for-tests}}\n"
            f"prompts: {{engine: '{engine}'}}\n"
            "trunks: {PRI1: {span: PRI1}}\naccounts: accounts/*.yaml\n"
        )
        return path

    return write


def run(*arguments: str):
    return CliRunner().invoke(main, ["prompts", *arguments])


def test_build_and_list(project):
    project("text")
    first = run("list")
    assert first.exit_code == 1
    assert "MISSING" in first.output
    assert "exoflow prompts build -c exoflow.yaml" in first.output
    built = run("build")
    assert built.exit_code == 0, built.output
    assert '"Welcome to Acme."  (acme: flows.main.steps.welcome.greeting)' in built.output
    assert "1 made (1.1 s of sound), 0 were there" in built.output
    again = run("build", "-c", "exoflow.yaml")
    assert (again.exit_code, "none to make, 1 were there" in again.output) == (0, True)
    assert "1 made" in run("build", "--all").output
    listed = run("list")
    assert (listed.exit_code, "1.1 s  prompts/" in listed.output) == (0, True)


def test_build_without_the_engine_names_the_cure(project):
    project("no-such-engine {text} {wav}")
    built = run("build")
    assert built.exit_code == 1
    assert "`no-such-engine` is not on this machine" in built.output


def test_build_without_a_configuration(tmp_path):
    built = run("build", "-c", str(tmp_path / "nothing.yaml"))
    assert built.exit_code == 1
    assert "nothing.yaml" in built.output
