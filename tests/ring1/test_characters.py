"""Texts from outside as one line: words stay whole, controls go."""

import pytest

from exoflow.calls.show import clean
from exoflow.characters import one_line, switch_takes_path
from exoflow.config.values import typed
from exoflow.crm.mask import excerpt

NAMES = [
    "ന\u200dരേന്ദ്രൻ",
    "क्\u200cष",
    "می\u200cخواهم",
    "👩\u200d👩\u200d👧",
    "🏴\U000e0067\U000e0062\U000e007f",
    "א\u200fב",
    "❤\ufe0f",
]


@pytest.mark.parametrize("name", NAMES)
def test_joiners_marks_and_emoji_stay_in_every_line(name):
    assert one_line(name) == name
    assert typed(name, "text") == name
    assert clean(name) == name
    assert excerpt(name.encode()) == name


@pytest.mark.parametrize(
    "control", ["\n", "\r", "\0", "\x1b", "\x85", "\u2028", "\u2029", "\u202e", "\u2066", "\ud800", "\u00ad"]
)
def test_what_ends_a_line_or_reorders_it_goes(control):
    assert one_line(f"a{control}b") == "a b"
    assert clean(f"a{control}b") == "a?b"


@pytest.mark.parametrize(
    "path", ["/a b", "/a'b", "/a!b", "/a$b", "/a;b", "/a[b", "/a{b", "/a/../b", "a", "/", "/ä", "/a\n", "/a(b)"]
)
def test_path_that_freeswitch_would_misread(path):
    assert not switch_takes_path(path)


@pytest.mark.parametrize("path", ["/var/lib/exoflow/a-b_c.wav", "/srv/@x/+91=1,2.wav"])
def test_path_that_it_takes(path):
    assert switch_takes_path(path)
