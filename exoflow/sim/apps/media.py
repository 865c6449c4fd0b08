"""Playing sounds and collecting keys (switch_ivr_play_say.c, switch_ivr.c:1342, mod_dptools.c:2822)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal, NamedTuple

from exoflow.sim.apps import application
from exoflow.sim.arguments import separate
from exoflow.sim.sounds import NoSound, sounds_of

if TYPE_CHECKING:
    from exoflow.sim.session import Session

MIN_TIMEOUT_MS = 1000  # shorter ones are raised to it (mod_dptools.c:2898)
MAX_DIGITS = 128  # of the application's buffer

Played = Literal["played", "key", "break", "missing", "error"]


def play(session: Session, argument: str, *, stop_keys: str | None = None, keep_key: bool = False) -> Played:
    """Plays until the end, a break, or a key. `keep_key`: any key ends it and stays queued (play_and_get_digits);
    `stop_keys`: these end it and all keys are eaten (playback). None: keys are not looked at."""
    try:
        sounds = sounds_of(argument)
    except NoSound:
        session.switch.complain("missing_sound", f"nothing to play in {argument[:160]!r}: the caller hears nothing", session)
        return "missing"
    for sound in sounds:
        if keep_key and session.digits:
            return "key"
        session.phone.hears(sound)
        stopped = False

        def key_pressed() -> bool:
            nonlocal stopped
            if keep_key:
                return bool(session.digits)
            if stop_keys is not None:
                while session.digits:
                    stopped = session.take_key() in stop_keys or stopped
            return stopped

        ending = session.wait(None if sound.seconds == float("inf") else sound.seconds, key_pressed)
        session.phone.heard_until_now()
        if ending == "came":
            return "key"
        if ending == "break":
            return "break"
        if ending != "time":
            return "error"
    return "played"


@application("playback", needs_media=True)
def playback(session: Session, argument: str) -> None:
    terminators = session.channel.variables.get("playback_terminators", "*")
    stop_keys = "" if terminators == "none" else "0123456789*#" if terminators == "any" else terminators
    result = play(session, argument, stop_keys=stop_keys)
    session.digits.clear()
    response = {"missing": "FILE NOT FOUND", "error": "PLAYBACK ERROR"}.get(result, "FILE PLAYED")
    session.channel.set("current_application_response", response)


class _Question(NamedTuple):
    """Arguments of play_and_get_digits in their order; times in seconds."""

    least: int
    most: int
    tries: int
    timeout: float
    terminators: str
    prompt: str
    invalid: str
    variable: str
    pattern: str
    digit_timeout: float
    on_failure: str


def _parse(argument: str) -> _Question:
    words = separate(argument)
    words += [""] * (11 - len(words))
    least = max(0, _int(words[0]))
    timeout = max(MIN_TIMEOUT_MS, _int(words[3])) / 1000
    return _Question(
        least, max(least, _int(words[1])), _int(words[2]), timeout, words[4] or "#", words[5], words[6], words[7], words[8],
        (_int(words[9]) / 1000) or timeout, words[10],
    )  # fmt: skip


@application("read")
def read(session: Session, argument: str) -> None:
    """`least most file variable timeout terminators digit_timeout`: collects what is typed, once (mod_dptools.c:2755).

    The dialplan's own looks for keys while the call has no app, without asking the caller for any.
    """
    words = separate(argument)
    words += [""] * (7 - len(words))
    least, timeout = max(1, _int(words[0])), max(MIN_TIMEOUT_MS, _int(words[4])) / 1000
    question = _Question(
        least, max(least, _int(words[1])), 1, timeout, words[5] or "#", words[2], "", words[3], "",
        (_int(words[6]) / 1000) or timeout, "",
    )  # fmt: skip
    _read(session, question)


@application("play_and_get_digits", needs_media=True)
def play_and_get_digits(session: Session, argument: str) -> None:
    """Asks up to `tries` times; the variable holds the digits, `<var>_invalid` what did not match, `read_result` how it was."""
    question = _parse(argument)
    channel = session.channel
    if question.pattern and question.variable:
        channel.set(f"{question.variable}_invalid", None)
    for _ in range(question.tries):
        if not session.ready():
            break
        digits, complete, terminator = _read(session, question)
        if question.least == 0 and not digits and terminator:
            return
        if complete and digits:
            if not question.pattern or re.search(question.pattern, digits):
                return
            channel.set(question.variable, None)
            if question.variable:
                channel.set(f"{question.variable}_invalid", digits)
        if not session.ready():
            break
        if question.invalid:
            play(session, question.invalid)
    if question.on_failure:
        session.switch.complain("failure_transfer", f"11th argument {question.on_failure!r} transfers the call away", session)
        session.transfer(question.on_failure.split()[0])


def _read(session: Session, question: _Question) -> tuple[str, bool, str]:
    """switch_ivr_read: the digits, whether they count as a whole answer, and the terminator if one was pressed."""
    channel = session.channel
    channel.set("read_result", None)
    channel.set(question.variable, None)
    if session.in_app:
        session.phone.is_asked(question.most)
    digits, terminator = "", ""
    if question.prompt and question.prompt.lower() != "silence":
        result = play(session, question.prompt, keep_key=True)
        if result in ("missing", "error"):
            session.phone.was_asked()
            return "", False, ""
        if result == "key":
            digits = session.take_key()
            if digits in question.terminators and question.most > 1:
                digits, terminator = "", digits
    status = "success"
    if not terminator and len(digits) < question.most:
        digits, terminator, status = _collect(session, question, digits)
    session.phone.was_asked()
    if terminator:
        channel.set("read_terminator_used", terminator)
    if len(digits) < question.least:
        status = "failure"
    channel.set("read_result", status)
    if question.most == 1 and digits and digits in question.terminators:
        digits = ""
    if digits:
        channel.set(question.variable, digits)
    return digits, status == "success" or (status == "timeout" and len(digits) >= question.least), terminator


def _collect(session: Session, question: _Question, digits: str) -> tuple[str, str, Literal["success", "timeout", "failure"]]:
    """switch_ivr_collect_digits_count: until enough, a terminator, or silence for too long."""
    while True:
        seconds = question.digit_timeout if digits else question.timeout
        ending = session.wait(seconds, lambda: bool(session.digits), judges=not session.in_app)
        if ending == "time":
            return digits, "", "timeout"
        if ending == "break":
            continue
        if ending != "came":
            return digits, "", "failure"
        key = session.take_key()
        if key in question.terminators:
            return digits, key, "success"
        digits += key
        if len(digits) >= min(question.most, MAX_DIGITS):
            return digits, "", "success"


def _int(text: str) -> int:
    found = re.match(r"\s*(-?\d+)", text)
    return int(found[1]) if found else 0
