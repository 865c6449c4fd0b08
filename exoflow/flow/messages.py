"""Messages to people and programs in the middle of a call: sent beside it, or waited for, and in the journey either way."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import urlsplit

from exoflow.calls.model import Stage
from exoflow.config.steps import Prompt
from exoflow.crm.http import Answer, CrmFailure
from exoflow.flow.here import Here
from exoflow.flow.hold import sound as hold_sound
from exoflow.flow.hold import while_asking
from exoflow.flow.templates import Address

ASIDE_MARGIN = 1.0  # seconds beyond a message's own deadline, for its line in the journey

Kind = Literal["sms", "mail", "page"]


@dataclass(frozen=True, slots=True)
class Sent:
    """How it went. `code` is what follows the applet's name in the journey: `sent`, `timeout`, `500`, …"""

    good: bool
    stage: Stage
    code: str
    text: str
    evidence: dict[str, Any] = field(default_factory=dict)


def send(
    here: Here,
    kind: Kind,
    what: str,
    deliver: Callable[[], Sent],
    *,
    seconds: float,
    wait: bool,
    hold: Prompt | None,
    shown: Callable[[], Mapping[str, Any]],
    **evidence: Any,
) -> bool:
    """Sends by `deliver`, which never raises and ends within `seconds`. Waits for it, or lets it run beside the call.

    Where nothing is sent (`Parts.sends`) the journey has the message itself, as `shown` tells it without its secrets.
    False if it was waited for and did not go out.
    """
    if here.data:
        here.came_back("the message was under way")
        here.note("C", f"{kind}.once", "It was under way when the call's socket was lost, and is not sent again")
        return True
    if not here.parts.sends:
        here.note("C", f"{kind}.unsent", f"{what}: not sent in this trial", message=shown(), **evidence)
        return True
    here.note("C", f"{kind}.sending", what, **evidence)
    here.keep(sending=True)
    step = here.step
    if not wait:
        here.afterwards(lambda: _tell(here, step, kind, deliver()), seconds=seconds + ASIDE_MARGIN)
        return True
    sent: Sent = while_asking(here, deliver, hold_sound(here, hold, seconds), seconds)
    _tell(here, step, kind, sent)
    return sent.good


def _tell(here: Here, step: str, kind: Kind, sent: Sent) -> None:
    """The line of the journey, also when the call is at another step by now."""
    here.call.note(sent.stage, f"{kind}.{sent.code}", sent.text, step=step, **sent.evidence)


def by_http(here: Here, where: Address, ask: Callable[[], Answer], who: str, secrets: list[str]) -> Sent:
    """One HTTP request, judged: 2xx is taken, all else is not. `secrets` are never shown, wherever the answer repeats them."""
    shown = where.shown
    try:
        answer = ask()
    except CrmFailure as failure:
        stage: Stage = "E" if failure.reason in ("timeout", "body") else "D"
        text = f"{urlsplit(where.url).hostname}: {failure.detail} (after {failure.ms} ms); {failure.cure}"
        return Sent(False, stage, failure.reason, text, {"url": shown, "status": failure.status, "ms": failure.ms})
    said = answer.excerpt
    for secret in filter(None, secrets):
        said = said.replace(secret, "***")
    said = here.hidden.cover(said)
    evidence = {"url": shown, "status": answer.status, "ms": answer.ms}
    evidence |= {"unread": answer.unread} if answer.unread else {"answer": said}
    if 200 <= answer.status < 300:
        return Sent(True, "E", "sent", f"{who} took it ({answer.status} in {answer.ms} ms)", evidence)
    cure = "see its own log for the error" if answer.status >= 500 else "check the URL, its key and the fields"
    return Sent(False, "E", str(answer.status), f"{who} answered {answer.status}, only 2xx counts as taken; {cure}", evidence)
