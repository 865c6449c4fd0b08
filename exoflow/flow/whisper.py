"""What agents and callers hear around an attempt: by the step's own prompts, or by what a CRM's answer names."""

from __future__ import annotations

import math
from functools import partial
from typing import NamedTuple

import gevent

from exoflow.config.steps import Connect, Prompt
from exoflow.crm.answers import AgentsAnswer
from exoflow.crm.strictjson import BadAnswer
from exoflow.errors import ExoflowError
from exoflow.flow import heard
from exoflow.flow.here import Here, joined
from exoflow.flow.hold import sound as hold_sound
from exoflow.flow.hold import while_asking
from exoflow.flow.speech import sound_file, spoken
from exoflow.telephony.dialstring import MAX_ASK_SECONDS, Ask

# India's ringing tone, made by FreeSWITCH itself while a leg is set up (facts, pri-and-freetdm.md section 8)
INDIAN_RINGBACK = "%(400,200,400,450);%(400,2000,400,450)"
# beyond a whisper's own length: FreeSWITCH counts whole seconds, and a line may take one to open
WHISPER_MARGIN = 3


class Named(NamedTuple):
    """Sounds that a CRM's answer names, as far as they could be had."""

    music: Prompt | None = None  # while agents ring
    callee: Prompt | None = None  # to an agent who answers
    both: Prompt | None = None  # when the talk begins


def asked(here: Here, connect: Connect, callee: Prompt | None = None) -> Ask | None:
    """As the step says: a whisper, a question, one behind the other, or nothing. `callee` goes before the step's whisper."""
    confirm = connect.confirm
    prompts = [prompt for prompt in (callee or connect.whisper, confirm) if prompt is not None]
    if not prompts:
        return None
    sounds = [for_agents(here, prompt) for prompt in prompts]
    sound = joined(sounds)
    if confirm is not None:
        return Ask(sound, confirm.seconds, confirm.key)
    seconds = math.ceil(here.length(_single(here, prompts[0]))) + WHISPER_MARGIN
    return Ask(sound, min(MAX_ASK_SECONDS, seconds))


def for_agents(here: Here, prompt: Prompt) -> str:
    """What the switch plays for it in the account's language, which its agents speak, whatever the caller has chosen."""
    return here.sound(_single(here, prompt))


def _single(here: Here, prompt: Prompt) -> Prompt:
    return prompt.spoken_in(here.account.language, here.account.language)


# --- what a CRM names ---------------------------------------------------------------------------


def named(here: Here, connect: Connect, answer: AgentsAnswer) -> Named:
    """Fetches and speaks it, within heard.SOUND_SECONDS; the caller hears `hold` meanwhile. What cannot be had is noted, left
    out, and no reason to ring nobody. Raises Disconnected."""
    if not (answer.playback or (answer.music and answer.music.url)):
        return Named()
    seconds = heard.SOUND_SECONDS
    found, problems = while_asking(here, partial(_all, here, answer), hold_sound(here, connect.hold, seconds), seconds)
    for problem in problems:
        here.note("F", "crm.unplayable", f"A sound of the CRM's answer is left out: {problem}")
    told: Named = found
    return told


def _all(here: Here, answer: AgentsAnswer) -> tuple[Named, list[str]]:
    """Both at once, each with an end of its own."""
    wanted: dict[str, tuple[str, str]] = {}
    if answer.playback is not None:
        wanted[answer.playback.to] = (answer.playback.text, answer.playback.url)
    if answer.music is not None and answer.music.url:
        wanted["music"] = ("", answer.music.url)
    making = {name: gevent.spawn(_made, here, *told) for name, told in wanted.items()}
    made = {name: greenlet.get() for name, greenlet in making.items()}
    problems = [str(one) for one in made.values() if isinstance(one, ExoflowError)]
    return Named(**{name: one for name, one in made.items() if not isinstance(one, ExoflowError)}), problems


def _made(here: Here, text: str, url: str) -> Prompt | ExoflowError:
    """A failure as a value: gevent would print it as an unhandled exception of its greenlet."""
    try:
        return _sound(here, text, url)
    except ExoflowError as problem:
        return problem


def _sound(here: Here, text: str, url: str) -> Prompt:
    if url:
        return sound_file(heard.fetch(here, url).path)
    if here.hidden.cover(text) != text:
        raise BadAnswer("start_call_playback", "repeats the caller's secret digits, which are never spoken")
    return sound_file(spoken(here, text, here.account.language))
