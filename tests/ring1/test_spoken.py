"""Values as words: Indian grouping, and that every word said is among the blocks that are rendered."""

from __future__ import annotations

import re
import shlex
import sys
import unicodedata
from contextlib import suppress
from datetime import date, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exoflow.config.actions import SayValueStep
from exoflow.config.model import Prompts
from exoflow.config.spoken import KINDS, LANGUAGES, Unsayable, all_words, spoken_language, table_of, words
from exoflow.config.stepbase import Block, Prompt
from exoflow.prompts import PromptBook, Wanted

ENGLISH = LANGUAGES["en"]


def said(kind: str, value: str | int) -> str:
    return " ".join(ENGLISH.words(kind, value))


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0, "zero"),
        (100, "one hundred"),
        (1001, "one thousand one"),
        (99_999, "ninety nine thousand nine hundred ninety nine"),
        (100_000, "one lakh"),
        (1_234_567, "twelve lakh thirty four thousand five hundred sixty seven"),
        (10_000_000, "one crore"),
        (
            1_000_000_000_000 - 1,
            "ninety nine thousand nine hundred ninety nine crore ninety nine lakh " + said("number", 99_999),
        ),
        ("-5", "minus five"),
        ("+007", "seven"),
    ],
)
def test_numbers(value, words):
    assert said("number", value) == words


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("1250.50", "one thousand two hundred fifty rupees and fifty paise"),
        ("1,23,456", "one lakh twenty three thousand four hundred fifty six rupees"),
        (1, "one rupee"),
        ("0.01", "one paisa"),
        ("0.5", "fifty paise"),
        ("0", "zero rupees"),
        ("-20.10", "minus twenty rupees and ten paise"),
        ("-0.00", "zero rupees"),
    ],
)
def test_amounts(value, words):
    assert said("amount", value) == words


@pytest.mark.parametrize(
    ("kind", "value", "words"),
    [
        ("date", "2026-11-23", "twenty third November two thousand twenty six"),
        ("date", "31011998", "thirty first January nineteen ninety eight"),
        ("date", "1900-01-01T10:00:00Z", "first January nineteen hundred"),
        ("date", "2024-02-29", "twenty ninth February two thousand twenty four"),
        ("time", "16:30", "four thirty P M"),
        ("time", "0005", "twelve oh five A M"),
        ("time", "12:00:59", "twelve o'clock P M"),
        ("time", "2026-11-23T09:10:00+05:30", "nine ten A M"),
        ("digits", "0420*#", "zero four two zero star hash"),
        ("digits", 42, "four two"),
    ],
)
def test_dates_times_and_digits(kind, value, words):
    assert said(kind, value) == words


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        *(("number", value) for value in ("", "1.5", "1e3", "१२", "ten", "1 2", "10" * 10, 10**12, "--1", "5\n6", "$(id)")),
        *(("amount", value) for value in ("", ".5", "1.234", "1.", "Rs 5", "१.५", "1" * 16)),
        *(("digits", value) for value in ("", "12 34", "+91", "-1", "1" * 33, "१")),
        *(
            ("date", value)
            for value in ("2025-02-29", "29022025", "2026-13-01", "00000000", "23-11-2026", "0000-01-01", "soon")
        ),
        *(("time", value) for value in ("24:00", "12:60", "noon", "5", "16:30 or so", "9:05")),
    ],
)
def test_what_cannot_be_said(kind, value):
    with pytest.raises(Unsayable):
        ENGLISH.words(kind, value)


@given(
    st.one_of(
        st.tuples(st.just("number"), st.integers(1 - 10**12, 10**12 - 1).map(str)),
        st.tuples(st.just("amount"), st.decimals(-(10**11), 10**11, places=2).map(str)),
        st.tuples(st.just("digits"), st.text("0123456789*#", min_size=1, max_size=32)),
        st.tuples(st.just("date"), st.dates().map(str)),
        st.tuples(st.just("time"), st.times().map(str)),
    )
)
def test_every_word_is_a_block_that_is_rendered(what):
    kind, value = what
    for table in LANGUAGES.values():
        words = table.words(kind, value)
        assert words
        assert set(words) <= set(table.blocks(kind))
        assert len(words) <= 40  # FreeSWITCH joins at most 128 files


@given(st.sampled_from(KINDS), st.text(max_size=40))
def test_any_text_is_said_or_refused(kind, text):
    with suppress(Unsayable):
        assert ENGLISH.words(kind, text)


SPOKEN = Path(__file__).parent.parent / "spoken"
OTHERS = sorted(set(LANGUAGES) - {"en"})
SCRIPTS = {
    "bn": "BENGALI",
    "en": "LATIN",
    "hi": "DEVANAGARI",
    "kn": "KANNADA",
    "mr": "DEVANAGARI",
    "ta": "TAMIL",
    "te": "TELUGU",
}


def expected() -> list[tuple[str, str, str, str]]:
    """Language, kind, value and words of every line in tests/spoken; `numbers 20-29` are ten numbers between commas."""
    found = []
    for language in OTHERS:
        for line in (SPOKEN / f"{language}.txt").read_text(encoding="utf-8").splitlines():
            if not line or line.startswith("#"):
                continue
            what, said = line.split(" = ")
            kind, value = what.split(" ", 1)
            if kind == "numbers":
                first = int(value.partition("-")[0])
                found += [(language, "number", str(n), one) for n, one in enumerate(said.split(", "), first)]
            else:
                found.append((language, kind, value, said))
    return found


@pytest.mark.parametrize("language", OTHERS)
def test_each_language_says_what_its_file_expects(language):
    lines = [line for line in expected() if line[0] == language]
    assert {int(value) for _, kind, value, _ in lines if kind == "number"} >= set(range(100))
    assert {kind for _, kind, _, _ in lines} == set(KINDS)
    wrong = [(kind, value, got) for _, kind, value, said in lines if (got := " ".join(words(kind, value, language))) != said]
    assert wrong == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_two_values_sound_alike(language):
    numbers = [
        *range(2200),
        *range(2200, 10**7, 9973),
        *(n * 10**5 for n in range(1, 1200)),
        *(n * 10**7 for n in range(1, 300)),
    ]
    days = [date(1890, 1, 1) + timedelta(n) for n in range(365 * 140)]
    times = [f"{hour:02}{minute:02}" for hour in range(24) for minute in range(60)]
    amounts = [f"{rupees}.{paise:02}" for rupees in (0, 1, 2, 21, 100, 1000, 100000) for paise in range(100)]
    for kind, values in (("number", numbers), ("date", days), ("time", times), ("amount", amounts)):
        distinct = {str(value) for value in values}
        assert len({" ".join(words(kind, value, language)) for value in distinct}) == len(distinct)


@pytest.mark.parametrize("language", LANGUAGES)
def test_words_are_in_the_languages_own_script(language):
    """So that its voice can speak them; a word is always composed alike, so that it is one file."""
    for kind in KINDS:
        for block in all_words(kind, language):
            letters = block.replace(" ", "").replace("'", "")
            assert letters
            assert {unicodedata.name(letter).split()[0] for letter in letters} == {SCRIPTS[language]}, block
            assert block == " ".join(block.split())
    every = {block for kind in KINDS for block in all_words(kind, language)}
    assert len({unicodedata.normalize("NFC", block) for block in every}) == len(every)


def test_espeak_does_not_swallow_vowels_behind_a_dotted_letter():
    """Of two characters (letter and dot) it leaves out the vowel sign that follows: কুড়ি, twenty, would be kur."""
    every = {block for kind in KINDS for block in all_words(kind, "bn")}
    assert "কু\u09dcি" in every
    assert [block for block in every if re.search("\u09bc[\u09be-\u09cc]", block)] == []


@pytest.mark.parametrize(
    ("caller", "account", "said"),
    [
        ("hi", "en", "hi"),
        ("hi-IN", "en", "hi-IN"),  # its own voice reads the words of hi
        ("fr", "kn", "kn"),
        ("fr", "de", "en"),
        ("en-IN", "hi", "en-IN"),
        ("", "hi", "hi"),
    ],
)
def test_the_language_of_a_value_is_the_callers_then_the_accounts_then_english(caller, account, said):
    assert spoken_language(caller, account) == said
    assert words("number", 7, said) == ["सात" if "hi" in said else "ಏಳು" if said == "kn" else "seven"]


def test_a_language_without_words():
    assert table_of("fr-CA") is None
    with pytest.raises(KeyError):
        words("number", 1, "fr")


def test_blocks_are_rendered_without_the_silence_around_them(tmp_path: Path) -> None:
    """Any engine will do: this one writes 0.2 s of silence, a beep of 0.5 s, and 0.3 s of silence."""
    script = tmp_path / "engine.py"
    script.write_text(
        "import sys, wave\n"
        "sound = wave.open(sys.argv[1], 'wb')\n"
        "sound.setparams((1, 2, 8000, 0, 'NONE', ''))\n"
        "sound.writeframes(b'\\0\\0' * 1600 + b'\\0\\x20\\0\\xe0' * 2000 + b'\\0\\0' * 2400)\n"
    )
    engine = f"{shlex.quote(sys.executable)} {shlex.quote(str(script))} {{wav}} {{text}}"
    book = PromptBook(Prompts(engine=engine, folder=tmp_path / "prompts"))
    word, greeting = Block(say="lakh", language="en"), Prompt(say="lakh", language="en")
    for prompt in (word, greeting):
        book.render(Wanted("here", prompt, book.path(prompt)))
    assert book.path(word) != book.path(greeting)
    assert book.seconds(book.path(greeting)) == 1.0
    assert book.seconds(book.path(word)) == pytest.approx(0.56, abs=0.001)
    assert word.spoken_in("hi", "en") is word


def test_every_block_of_a_step_is_wanted_once() -> None:
    step = SayValueStep.model_validate({"say_value": {"value": 1, "as": "amount"}, "next": "bye"})
    texts = [block.say for block in step.spoken(["en"])]
    assert len(texts) == len(set(texts)) == 110
    assert {"lakh", "crore", "rupees", "paisa", "ninety nine"} <= set(texts)


def test_blocks_are_those_of_the_languages_that_callers_hear() -> None:
    step = SayValueStep.model_validate({"say_value": {"value": 1, "as": "digits"}, "next": "bye"})
    blocks = step.spoken(["hi", "fr", "en-IN", "kn"])  # the account's is Hindi, and so French callers hear Hindi
    assert [block.language for block in blocks] == ["hi"] * 12 + ["en-IN"] * 12 + ["kn"] * 12
    fixed = SayValueStep.model_validate({"say_value": {"value": 1, "as": "digits", "language": "ta"}, "next": "bye"})
    assert {block.language for block in fixed.spoken(["hi", "kn"])} == {"ta"}
