"""Asking the caller for keys."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from exoflow.config.steps import Prompt
from exoflow.errors import DeadlineExceeded
from exoflow.esl.codec import Headers
from exoflow.flow.here import KEYS, NOTHING, Here
from exoflow.flow.hidden import STARS
from exoflow.flow.latekeys import LateKeys
from exoflow.prompts import PROMPT_GONE

# What the switch takes for an answer: all that is pressed. A pattern that refuses the keys A to D would give up on them.
ANY_KEY = "."
MAX_PASSED_OVER = 10  # rounds of a question that keys A to D end; a line that makes more of them has no caller who types
EARLY_SECONDS = 0.5  # before its time-out a question that had its sound never ends without a key
STAR = "*"


class Keys(NamedTuple):
    """What a caller pressed: the keys, and the one that ended them, if one did."""

    pressed: str
    ended_by: str


class _Question(NamedTuple):
    """Of one play_and_get_digits. Seconds; the switch counts `digit_timeout` between two keys."""

    most: int
    timeout: float
    digit_timeout: float
    end_keys: str
    secret: bool = False


def one(here: Here, prompts: list[Prompt], *, timeout: float, keys: Collection[str] = ()) -> str:
    """One key, also one pressed while the prompts play; empty if none came. `keys` are those that mean something here.

    Raises CallEnded, Disconnected. Any key is taken and judged by the flow: a pattern's mismatch would play the
    switch's own error prompt.
    """
    late, here.at.late = here.at.late, ""
    question = _Question(1, timeout, timeout, "")
    return _answer(here, prompts, question, "" if late in keys else late).pressed


def several(
    here: Here, prompts: list[Prompt], *, most: int, timeout: float, digit_timeout: float, end_keys: str, secret: bool = False
) -> Keys:
    """Up to `most` keys, each of `end_keys` ending them; `timeout` seconds for the first, `digit_timeout` between two.

    Raises CallEnded, Disconnected. How many are enough is judged by the flow: to the switch too few are none. `secret`: the
    switch keeps none of them, neither in its log and CDR nor in the call's variables.
    """
    late, here.at.late = here.at.late, ""
    question = _Question(most, timeout, digit_timeout, end_keys if most > 1 else "", secret)
    keys = _answer(here, prompts, question, late)
    if secret:
        _wipe(here)
    return keys


def _answer(here: Here, prompts: list[Prompt], question: _Question, late: str) -> Keys:
    """The keys that count. Passed over are a first one that is `late`, the end key of the digits before, and those that no
    telephone has: A to D are what a tone detector makes of speech or noise. What they took of the answer is asked for again.
    """
    pressed, passed_over = "", ""
    for _ in range(MAX_PASSED_OVER + 1):
        rest = question._replace(most=question.most - len(pressed))
        if pressed:
            prompts, rest = [], rest._replace(timeout=question.digit_timeout)
        found = _ask(here, prompts, rest)
        counted = "".join(key for key in found.pressed if key in KEYS)
        odd, ended_by = len(counted) < len(found.pressed), found.ended_by
        passed_over += "".join(key for key in found.pressed if key not in KEYS)
        if late and not pressed and (counted[:1] or ended_by) == late:
            counted, ended_by = counted[1:], ended_by if counted else ""
            _say_late(here, late, counted)
            odd, late = True, ""
        pressed += counted
        if ended_by or not odd or len(pressed) >= question.most:
            break
    if passed_over:
        text = f"Keys {passed_over} are on no telephone (a voice was taken for them): passed over"
        here.note("C", "digits.passed_over", text, keys=passed_over)
    return Keys(pressed, ended_by)


def _wipe(here: Here) -> None:
    """Takes secret digits out of the channel's variables, where FreeSWITCH's CDR would have them."""
    asked = (f"exo_{what}_{here.at.visit}_{at}" for at in range(1, here.doing + 1) for what in ("keys", "late"))
    typed = STAR * here.at.typed + here.keys_typed[here.at.typed :]  # as long as before: how many were used up is counted
    names = {**dict.fromkeys([*asked, "exo_key", "sensitive_dtmf"], ""), **({"exo_typed": typed} if typed else {})}
    here.execute("multiset", "^^;" + ";".join(f"{name}={value}" for name, value in names.items()))
    here.keys_typed = here.keys_kept = typed


def _say_late(here: Here, key: str, rest: str) -> None:
    here.note("C", "digits.late_end", f"Key {key} still belonged to the digits before: it is asked again")
    if not rest:
        here.keep()  # else another process reads the rest again


def _ask(here: Here, prompts: list[Prompt], question: _Question) -> Keys:
    """The next keys: those typed ahead, while the call had no app or did something else, then those pressed now."""
    if here.has_ended:
        used = here.prefix
        here.at.typed += len(used)
        return _collect(here, prompts, question, used)
    here.end_gap()
    here.hear_keys()
    before = _split(here.keys_typed[here.at.typed :], question)
    if before.ended_by or len(before.pressed) == question.most:
        shown = STARS if question.secret else before.pressed + before.ended_by
        here.came_back(f"keys {shown} had been pressed meanwhile")
        here.keep_keys()
        here.at.typed += len(before.pressed + before.ended_by)
        return before
    here.at.typed += len(before.pressed)
    if before.pressed:
        prompts, question = [], question._replace(most=question.most - len(before.pressed), timeout=question.digit_timeout)
    return _collect(here, prompts, question, before.pressed)


def _split(typed: str, question: _Question) -> Keys:
    """What of these keys answers the question; the others are the next one's."""
    for at, key in enumerate(typed[: question.most]):
        if key in question.end_keys:
            return Keys(typed[:at], key)
    return Keys(typed[: question.most], "")


def _collect(here: Here, prompts: list[Prompt], question: _Question, before: str, instead: str = "") -> Keys:
    """One play_and_get_digits. Each has a variable of its own, so that an old key is never read for a new one."""
    if here.end_key_left and not here.has_ended:
        # FreeSWITCH never takes it back (switch_ivr_play_say.c:2581): these digits would seem to end by the key of others
        here.execute("unset", "read_terminator_used")
    here.end_key_left = False
    number = f"{here.at.visit}_{here.doing + 1}"
    variable = f"exo_keys_{number}"
    most, timeout, digit_timeout, end_keys, secret = question

    def argument() -> str:
        sound = instead or (here.sounds(prompts) if prompts else NOTHING)
        words = [1, most, 1, round(timeout * 1000), end_keys or "none", sound, NOTHING, variable, ANY_KEY]
        return " ".join(map(str, [*words, round(digit_timeout * 1000)] if most > 1 else words))

    def told() -> str:
        return _found(here, before + late.kept, variable, secret)

    deadline = timeout + here.seconds(prompts) + (most - 1) * digit_timeout
    with LateKeys(here, number, secret=secret) as late:
        try:
            found = here.perform(
                "play_and_get_digits",
                argument,
                deadline=deadline,
                found=told,
                before=late.in_front,
                clears="sensitive_dtmf" * secret,
            )
        except DeadlineExceeded:
            here.note("C", "switch.slow", "Collecting a key took longer than its prompt and time-out and was broken off")
            here.break_off()
            return Keys(before, "")
        ended_by = found.variable("read_terminator_used")
        here.end_key_left = bool(ended_by)
        keys = Keys(found.variable(variable), ended_by if most > 1 else "")
        unheard = bool(prompts) and not (keys.pressed or ended_by or instead) and _ended_early(late, found, timeout)
        if missing := late.before(keys.pressed + keys.ended_by, found):
            pressed = missing + keys.pressed + keys.ended_by
            keys = _split(pressed, question)
            late.ahead(pressed[len(keys.pressed + keys.ended_by) :])
    if prompts and not (unheard or instead or here.has_ended):
        here.parts.unplayable.played(lambda: here.sounds(prompts))
    if unheard and not keys.pressed and not here.caller_gone:
        here.say_unplayable(here.sounds(prompts))
        return _collect(here, prompts, question, before, PROMPT_GONE)
    return keys._replace(pressed=before + keys.pressed)


def _ended_early(late: LateKeys, ended: Headers, timeout: float) -> bool:
    """Did the question end without a key before its time? FreeSWITCH asks for none where it cannot open the sound."""
    begun = late.in_front.ended if late.in_front is not None else None
    if begun is None or not begun.successful():
        return False
    took = _micros(ended) - _micros(begun.get())
    return 0 <= took < (timeout - EARLY_SECONDS) * 1e6


def _micros(event: Headers) -> int:
    text = event.get("Event-Date-Timestamp")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else 0


def _found(here: Here, before: str, variable: str, secret: bool) -> str:
    pressed = before + here.session.channel.variable(variable)
    pressed = STARS if pressed and secret else pressed
    return f"keys {pressed} had been pressed" if pressed else "no key had been pressed"
