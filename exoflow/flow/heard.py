"""What a CRM lets a caller hear: asked for, fetched or spoken, and kept with the call as sound files of its own."""

from __future__ import annotations

from typing import Any, NamedTuple

from exoflow.config.stepbase import PromptOrUrl
from exoflow.config.steps import Prompt
from exoflow.crm.audio import Audio
from exoflow.crm.dialect import GREETING_PARAMETERS
from exoflow.crm.heard import Heard, parse_greeting
from exoflow.crm.mask import mask_url
from exoflow.crm.strictjson import BadAnswer
from exoflow.flow.asking import Question, ask_in_turn
from exoflow.flow.here import Here
from exoflow.flow.speech import sound_file, spoken

SOUND_SECONDS = 10.0  # for all that one answer names, beyond the answer's own time; the caller hears hold audio meanwhile


class Sounds(NamedTuple):
    """What is to be played, and what shows in the journey where it is from."""

    prompts: list[Prompt]
    evidence: dict[str, Any]


def prompts_told(here: Here, asks: PromptOrUrl) -> list[Prompt]:
    """What the caller hears by the URLs of `asks`, else by its own prompt; nothing if there is neither. Kept with the step: who
    comes back hears the same, and no CRM is asked twice. Raises Disconnected, CallEnded.
    """
    own: list[Prompt] = [asks] if asks.is_given else []
    if not asks.urls:
        return own
    if (kept := here.data.get("heard")) is not None:
        return [sound_file(path) for path in kept] or own
    here.session.raise_if_disconnected()
    say_again(here)
    here.keep(asking=True)
    question = Question(
        asks.urls,
        lambda answer: sounds(here, parse_greeting(answer)),
        timeout=asks.url_timeout,
        read_seconds=SOUND_SECONDS,
        hold=asks.hold,
        only=GREETING_PARAMETERS,
        head=True,
    )
    told = ask_in_turn(here, question)
    here.session.raise_if_disconnected()
    if told is not None:
        here.note("F", "crm.prompt", "The CRM told what is played", **told.evidence)
    elif own:
        here.note("F", "crm.own_prompt", "The step's own prompt is played, for the CRM told nothing that can be")
    prompts = [] if told is None else told.prompts
    here.keep(asking=None, heard=[str(prompt.play) for prompt in prompts])
    here.call.on_disk()  # an answered CRM is not asked twice, whatever dies now
    return prompts or own


def say_again(here: Here) -> None:
    """The journey's lines of a call that was lost in the question."""
    if here.data.get("asking"):
        here.came_back("the CRM was being asked")
        here.note("D", "crm.again", "Whether the CRM had got the request is unknown: it is asked again")


def sounds(here: Here, heard: Heard) -> Sounds:
    """Files for what a CRM named. Waits; raises BadAnswer, BadAudio, CrmFailure, ShelfFull, PromptError."""
    if here.hidden.cover(heard.text) != heard.text:
        raise BadAnswer("text", "repeats the caller's secret digits, which are never spoken")
    if heard.text:
        return Sounds([sound_file(spoken(here, heard.text))], {"words": heard.text})
    fetched = [fetch(here, url) for url in heard.urls]
    shown = [mask_url(url, here.account.crm.mask) for url in heard.urls]
    return Sounds([sound_file(one.path) for one in fetched], {"audio": shown, "came": [one.came for one in fetched]})


def fetch(here: Here, url: str) -> Audio:
    """The sound under a CRM's URL. Waits; raises BadAudio, CrmFailure, ShelfFull."""
    crm = here.account.crm
    return here.parts.audio.fetch(
        url, account=here.account_id, deadline=SOUND_SECONDS, allow_private=crm.allow_private, mask=crm.mask
    )
