"""The one door for text on its way to FreeSWITCH: every command passes here, and what could become something else is refused.

Refused, never escaped: one pass of the switch eats an escape and `set` makes two (facts/freeswitch-socket.md, section 9).
Args go as a length-framed body, so that a newline could not become a header even if it came so far.
"""

from __future__ import annotations

import re

from exoflow.characters import switch_takes_path
from exoflow.errors import UnsafeText

# CR ends FreeSWITCH's header parsing, LF starts a header, NUL cuts the value (mod_event_socket.c:1292); the rest has no use,
# and half a surrogate pair (JSON can bring one) has no bytes
_CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
# variables for one application; the character between may be any delimiter (switch_core_session.c:2873-2887)
_SCOPE = re.compile(r"\s*%.?\[", re.DOTALL)
# these two words anywhere in a packet's head replace the command (mod_event_socket.c:1729-1733)
_WORD_PAIR = re.compile(r"(?is)(?=.*(?:un|re)load)(?=.*mod_event_socket)")
_APPLICATION = re.compile(r"[a-z][a-z0-9_]{0,39}\Z")
_UUID = re.compile(r"[0-9a-fA-F-]{8,64}\Z")
_CAUSE = re.compile(r"[A-Z][A-Z0-9_]{1,47}\Z")
_TONE = re.compile(r"(?:tone|silence|local)_stream://[A-Za-z0-9_%(),.;=/-]{1,200}\Z")


def line(what: str, text: str) -> str:
    """A text that becomes one line of a command. Raises UnsafeText."""
    if _CONTROL.search(text):
        raise UnsafeText(what, "a control character may start another header or command", text)
    if "$" in text:
        raise UnsafeText(what, "`$` may be expanded by the switch", text)
    if _WORD_PAIR.match(text):
        raise UnsafeText(what, "these words make FreeSWITCH unload its event socket", text)
    return text


def argument(application: str, text: str) -> str:
    """The argument of an application. Raises UnsafeText."""
    line(f"argument of {application}", text)
    if _SCOPE.match(text):
        raise UnsafeText(f"argument of {application}", "`%[` at its beginning sets variables", text)
    return text


def word(what: str, text: str) -> str:
    """One of several arguments that are separated by spaces. Raises UnsafeText."""
    if not text or " " in text or "'" in text or '"' in text:
        raise UnsafeText(what, "an empty text, a space or a quote would shift the arguments behind it", text)
    return line(what, text)


def application(name: str) -> str:
    if not _APPLICATION.match(name):
        raise UnsafeText("application", "not a name of an application", name)
    return name


def uuid(text: str) -> str:
    if not _UUID.match(text):
        raise UnsafeText("uuid", "not a channel's uuid", text)
    return text


def cause(name: str) -> str:
    if not _CAUSE.match(name):
        raise UnsafeText("hangup cause", "not a name of a cause", name)
    return name


def sound(text: str) -> str:
    """One thing to be played: an absolute path or a tone. Raises UnsafeText."""
    if not (switch_takes_path(text) or _TONE.match(text)):
        raise UnsafeText("sound", "not an absolute path of plain characters, nor a tone", text)
    return text


def path(text: str) -> str:
    """An absolute path that the switch will write to. Raises UnsafeText."""
    if not switch_takes_path(text):
        raise UnsafeText("path", "not an absolute path of plain characters", text)
    return text
