"""What an agent hears before the call is his, and what both hear when their talk begins."""

from __future__ import annotations

import math

from exoflow.config.steps import Connect, Prompt
from exoflow.flow.here import Here
from exoflow.telephony.dialstring import MAX_ASK_SECONDS, Ask

# beyond a whisper's own length: FreeSWITCH counts whole seconds, and a line may take one to open
WHISPER_MARGIN = 3


def asked(here: Here, connect: Connect) -> Ask | None:
    """As the step says: a whisper, a question, one behind the other, or nothing."""
    confirm = connect.confirm
    prompts = [prompt for prompt in (connect.whisper, confirm) if prompt is not None]
    if not prompts:
        return None
    sounds = [for_agents(here, prompt) for prompt in prompts]
    sound = sounds[0] if len(sounds) == 1 else "file_string://" + "!".join(sounds)
    if confirm is None:
        return heard(sound, here.length(_single(here, prompts[0])))
    return Ask(sound, confirm.seconds, confirm.key)


def heard(sound: str, seconds: float) -> Ask:
    """A whisper of so many seconds, after which the talk begins."""
    return Ask(sound, min(MAX_ASK_SECONDS, math.ceil(seconds) + WHISPER_MARGIN))


def for_agents(here: Here, prompt: Prompt) -> str:
    """What the switch plays for it in the account's language, which its agents speak, whatever the caller has chosen."""
    return here.sound(_single(here, prompt))


def _single(here: Here, prompt: Prompt) -> Prompt:
    return prompt.spoken_in(here.account.language, here.account.language)
