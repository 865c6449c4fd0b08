"""Asking an account's CRM in the middle of a call: the request, the hold audio, and the journey's lines of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar
from urllib.parse import urlsplit

import gevent

from exoflow.calls.model import Stage
from exoflow.clock import utcnow
from exoflow.config.steps import Prompt
from exoflow.crm.dialect import parameters
from exoflow.crm.fitting import WORDS, Parameters, fitted
from exoflow.crm.http import MAX_URL_CHARS, Answer, CrmFailure
from exoflow.crm.outgoing import BUSY
from exoflow.crm.strictjson import BadAnswer
from exoflow.errors import ExoflowError
from exoflow.flow.here import Here
from exoflow.flow.hidden import STARS
from exoflow.flow.hold import sound as hold_sound
from exoflow.flow.hold import while_asking
from exoflow.flow.templates import Address, address
from exoflow.store import outbox

LEAST_SECONDS = 0.05  # of a GET behind a HEAD that took its time
EVENTS_SECONDS = 2.0  # dial events are taken within some 10 ms, by a CRM that is well
TELL_MARGIN = 1.0  # seconds beyond a question's own deadline before the record is closed without what came of it
# which stage of the design's table a failure belongs to: D is the way to the CRM, E the CRM itself
_STAGE: dict[str, Stage] = {"timeout": "E", "body": "E"}


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Asked:
    """What came of it: an answer, or the failure that is already in the journey."""

    answer: Answer | None
    code: str  # "crm.200", "crm.timeout", …

    @property
    def heard(self) -> bool:
        """Did the CRM answer, and not a server that fails (5xx)?"""
        return self.answer is not None and self.answer.status < 500


def ask(
    here: Here,
    url: str,
    *,
    timeout: float,
    hold: Prompt | None,
    headers: Mapping[str, str] | None = None,
    fallback_url: str | None = None,
) -> Asked:
    """GETs `url` with the dialect's parameters; an answered caller hears `hold` meanwhile. Ends within `timeout` seconds.
    Without an answer, or with a server's error (5xx), `fallback_url` is asked, within as many once more.

    Never raises for the CRM's sake: every failure is noted with its cure and returned.
    """
    where = address(here, url)
    request = _request(here, where, timeout, headers, waits=not here.caller_gone, status_only=True)
    found = while_asking(here, request, hold_sound(here, hold, timeout), timeout)
    asked = _told(here, here.step, where, found, here.failed)
    if fallback_url is None or asked.heard:
        return asked
    _say_fallback(here.note)
    return ask(here, fallback_url, timeout=timeout, hold=hold, headers=headers)


@dataclass(frozen=True, slots=True)
class Question(Generic[T]):
    """What a CRM is asked whose answer must be understood. Times are in seconds."""

    urls: Sequence[str]  # in order; a further one is asked if those before gave nothing that can be used
    read: Callable[[Answer], T]  # raises BadAnswer, or another ExoflowError; may wait, as for audio that the answer names
    timeout: float  # of each URL's whole answer
    read_seconds: float = 0.0  # that `read` may take in addition
    hold: Prompt | None = None
    headers: Mapping[str, str] | None = None
    only: Collection[str] = ()  # the dialect's parameters that are sent; all unless set
    head: bool = False  # a HEAD goes before each GET, within the same time
    digits: bool = True  # those that were pressed are among what is sent


def ask_in_turn(here: Here, question: Question[T]) -> T | None:
    """What the first URL's answer says that can be used; None if none can. An answered caller hears `hold` meanwhile.

    Never raises for the CRMs' sake: each failure is noted with its cure, an invalid answer with the key at fault. Raises
    Disconnected.
    """
    for at, url in enumerate(question.urls):
        if at:
            _say_fallback(here.note)
        where = address(here, url)
        request = _request(
            here,
            where,
            question.timeout,
            question.headers,
            waits=not here.caller_gone,
            only=question.only,
            head=question.head,
            digits=question.digits,
        )
        seconds = question.timeout + question.read_seconds
        answered = partial(_read, request, question)
        found, read = while_asking(here, answered, hold_sound(here, question.hold, seconds), seconds)
        asked = _told(here, here.step, where, found, here.failed)
        if isinstance(read, ExoflowError):
            _say_unusable(here, read, asked)
        elif read is not None:
            usable: T = read
            return usable
        if here.caller_gone:
            break
    return None


def _read(
    request: Callable[[], Answer | CrmFailure], question: Question[T]
) -> tuple[Answer | CrmFailure, T | ExoflowError | None]:
    """An answer, and what is read from it, or why nothing can be."""
    found = request()
    if isinstance(found, CrmFailure):
        return found, None
    late = BadAnswer("body", f"what it names did not come within {question.read_seconds:g} s")
    try:
        with gevent.Timeout(question.read_seconds or None, late):
            return found, question.read(found)
    except ExoflowError as problem:
        return found, problem


def _say_fallback(note: Callable[..., None]) -> None:
    note("E", "crm.fallback_url", "The first URL gave nothing that can be used: the fallback URL is asked")


def _say_unusable(here: Here, problem: ExoflowError, asked: Asked) -> None:
    assert asked.answer is not None
    excerpt = here.hidden.cover(asked.answer.excerpt)
    if not isinstance(problem, BadAnswer):
        here.failed("F", "crm.unplayable", f"What the CRM answered cannot be played: {problem}", answer=excerpt)
    elif problem.key != "status" or asked.answer.status < 400:  # else it is in the journey already
        here.failed("F", "crm.bad_answer", str(problem), key=problem.key, answer=excerpt)


def events_first(here: Here) -> None:
    """Lets dial events go before a passthru: receivers in the field lose a call's outcome by a pop-up that comes after it. Who
    is on the phone waits EVENTS_SECONDS at most; a `busy` that has not been taken by then is given up."""
    if here.call.events_taken(EVENTS_SECONDS):
        return
    call_id, store = here.call.id, here.call.book.store
    problem = "given up, for a passthru came first: behind it the pop-up would wipe the call's outcome"
    store.post(lambda connection: outbox.overtake(connection, call_id, BUSY, problem))


def tell(here: Here, url: str, *, timeout: float, fallback_url: str | None = None) -> None:
    """GETs `url` beside the flow, with what is known now, and then `fallback_url` by the rules of `ask`; what comes of it is
    noted at the step that told."""
    urls, step = [address(here, one) for one in (url, fallback_url) if one is not None], here.step
    requests = [_request(here, one, timeout, None, waits=False, status_only=True) for one in urls]

    def note(stage: Stage, code: str, text: str, **evidence: Any) -> None:
        here.call.note(stage, code, text, step=step, **evidence)

    def send() -> None:
        for at, (one, request) in enumerate(zip(urls, requests, strict=True)):
            if at:
                _say_fallback(note)
            if _told(here, step, one, request(), note).heard:
                return

    here.afterwards(send, seconds=timeout * len(urls) + TELL_MARGIN)


def _request(
    here: Here,
    where: Address,
    timeout: float,
    headers: Mapping[str, str] | None,
    *,
    waits: bool,
    only: Collection[str] = (),
    head: bool = False,
    digits: bool = True,
    status_only: bool = False,
) -> Callable[[], Answer | CrmFailure]:
    """The question with what is known of the call now, to be asked. `waits`: the caller does, and is not held by a dead CRM.
    `status_only`: the answer counts whatever its body is."""
    account, crm, now = here.account, here.parts.crm, utcnow()
    links = here.parts.links
    sent = parameters(
        here.call.state,
        now=now,
        account=account,
        account_id=here.account_id,
        recording_url=None if links is None else links.urls(here.call.state, account, now),
        digits=here.digits if digits else "",
    )
    sent = _as_fits(here, where.url, [(name, value) for name, value in sent if not only or name in only])
    secret = [] if here.call.state.digits != STARS else ["digits"]
    get = partial(
        crm.get,
        where.url,
        sent,
        allow_private=account.crm.allow_private,
        headers=headers,
        mask=[*account.crm.mask, *secret],
        account=here.account_id,
        waits=waits,
        circuit=where.written,
        status_only=status_only,
    )

    def asked() -> Answer | CrmFailure:
        begun = time.monotonic()
        try:
            if head:
                _look(partial(get, head=True, deadline=timeout))
            return get(deadline=max(LEAST_SECONDS, timeout - (time.monotonic() - begun)))
        except CrmFailure as failure:  # as a value: gevent would print it as an unhandled exception of its greenlet
            return failure

    return asked


def _as_fits(here: Here, url: str, sent: Parameters) -> list[tuple[str, str]]:
    """What servers take of them; what is left out is told once, for it is the same with the call's next requests."""
    found = fitted(url, sent)
    journey = here.call.state.journey
    told = any(one.code == "crm.left_out" and one.evidence.get("left_out") == found.left_out for one in journey)
    if found.left_out and not told:
        what = " and ".join(WORDS[one] for one in found.left_out)
        text = f"Left out: {what}. The address would have {found.chars} characters, and servers take {MAX_URL_CHARS}"
        here.call.note("D", "crm.left_out", text, step=here.step, left_out=found.left_out, chars=found.chars)
    return list(found.parameters)


def _look(head: Callable[[], Answer]) -> None:
    """A HEAD as receivers expect it; what it says is the GET's to decide. Raises CrmFailure where no GET could do better."""
    try:
        head()
    except CrmFailure as failure:
        if failure.reason not in ("reset", "body"):  # a server that knows no HEAD
            raise


def _told(here: Here, step: str, where: Address, found: Answer | CrmFailure, failed: Callable[..., None]) -> Asked:
    """Notes what came of a question at the step that asked it."""
    # the call's own parameters would hide what matters; they are the dialect's, and the call's record has them
    shown: dict[str, Any] = {"url": where.shown} | ({"unset": where.unset} if where.unset else {})
    if isinstance(found, CrmFailure):
        code = f"crm.{found.reason}"
        stage = _STAGE.get(found.reason, "D")
        text = f"{urlsplit(where.url).hostname}: {found.detail} (after {found.ms} ms); {found.cure}"
        failed(stage, code, text, **shown, status=found.status, ms=found.ms, **found.circuit)
        return Asked(None, code)
    code = f"crm.{found.status}"
    shown |= {"status": found.status, "ms": found.ms}
    said = {"unread": found.unread} if found.unread else {"answer": here.hidden.cover(found.excerpt)}
    shown |= {**said, **found.circuit}
    if found.status >= 400 or found.status < 200:
        cure = "see the CRM's own log for the error" if found.status >= 500 else "check the URL and its key"
        failed("E", code, f"The CRM answered {found.status} in {found.ms} ms; {cure}", **shown)
    else:
        here.call.note("E", code, f"The CRM answered {found.status} in {found.ms} ms", step=step, **shown)
    return Asked(found, code)
