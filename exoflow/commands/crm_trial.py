"""`exoflow crm test`: one address of an account, asked or told as a call would, and what the flow would do."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import click

from exoflow.calls.model import CallState
from exoflow.calls.show import clean
from exoflow.commands.crm import ASKED, CALL_BACKS, Address, addresses, no_account
from exoflow.commands.crm_told import tellings
from exoflow.config.model import Account, Config, Number
from exoflow.config.steps import Connect, Passthru, PassthruBesideStep, PassthruStep
from exoflow.crm.http import Answer, CrmClient, CrmFailure
from exoflow.crm.mask import MASK, is_secret_key, mask_url
from exoflow.crm.sender import judged
from exoflow.crm.strictjson import BadAnswer, text_of
from exoflow.errors import ExoflowError
from exoflow.flow.applets import APPLETS
from exoflow.flow.applets.connect import begin
from exoflow.flow.applets.gather import question_of
from exoflow.flow.applets.passthru import BY_STATUS
from exoflow.flow.callingback import ask_hook
from exoflow.flow.heard import prompts_told
from exoflow.flow.here import Here
from exoflow.flow.plan import Plan, planned
from exoflow.flow.trial import placed_at, pretended
from exoflow.telephony.numbers import to_e164

MARK = {"Exoflow-Test": "true"}  # tells whoever receives it that there is no such call
SHOWN_BODY = 4000  # characters of a request's body on the terminal; a delivery has up to 20 kB
# of the journey's lines, those that say what came of a question or a message
SAID = ("crm.", "connect.", "passthru.", "sms.", "page.", "greeting.", "menu.", "gather.", "prompt.")


@dataclass(frozen=True)
class Pretence:
    """What a test says of its call. `variables` are those that the flow knows by then."""

    caller: str
    digits: str
    variables: Mapping[str, str]


@dataclass
class Exchange:
    """A request as it was sent, and its answer or failure. `url` is masked."""

    method: str
    url: str
    parameters: Sequence[tuple[str, str]]
    headers: Mapping[str, str]
    body: bytes = b""
    answer: Answer | None = None
    failure: CrmFailure | None = None

    @property
    def told(self) -> dict[str, Any]:
        """What came of it."""
        if self.answer is None:
            failure = self.failure
            return {} if failure is None else {"status": failure.status, "ms": failure.ms, "reason": failure.reason}
        kind = self.answer.headers.get("content-type", "")
        return {"status": self.answer.status, "ms": self.answer.ms, "content_type": kind, "answer": self.answer.excerpt}


class MarkedClient(CrmClient):
    """Marks its requests as tests, and remembers them. `secrets` are headers whose values are never shown."""

    def __init__(self, secrets: Sequence[str] = ()) -> None:
        super().__init__()
        self.exchanges: list[Exchange] = []
        self._secrets = secrets

    def get(self, url: str, params: Sequence[tuple[str, str]] = (), **more: Any) -> Answer:
        headers = {**(more.pop("headers", None) or {}), **MARK}
        shown = Exchange("HEAD" if more.get("head") else "GET", mask_url(url, more.get("mask", ())), params, headers)
        return self._kept(shown, lambda: super(MarkedClient, self).get(url, params, headers=headers, **more))

    def post(self, url: str, body: bytes, **more: Any) -> Answer:
        headers = {**(more.pop("headers", None) or {}), **MARK}
        shown = Exchange("POST", mask_url(url, more.get("mask", ())), (), headers, body)
        return self._kept(shown, lambda: super(MarkedClient, self).post(url, body, headers=headers, **more))

    def _kept(self, exchange: Exchange, send: Callable[[], Answer]) -> Answer:
        seen = {name: MASK if name in self._secrets else value for name, value in exchange.headers.items()}
        exchange.headers = seen
        self.exchanges.append(exchange)
        try:
            exchange.answer = send()
        except CrmFailure as failure:
            exchange.failure = failure
            raise
        return exchange.answer


@dataclass
class Verdict:
    """`good`: the CRM's answer decides how the flow goes on. `meaning`: what the flow does."""

    good: bool
    meaning: str
    journey: list[tuple[str, str]] = field(default_factory=list)  # code and text of the call's lines


def tried(config: Config, account_id: str, where: str, pretence: Pretence, *, as_json: bool) -> None:
    """Tries it and prints what came of it. Raises click's Exit (1) if that is nothing good, ClickException."""
    if account_id not in config.accounts:
        raise click.ClickException(no_account(config, account_id))
    account = config.accounts[account_id]
    address = _chosen(account_id, account, where)
    caller = to_e164(pretence.caller)
    if caller is None:
        raise click.ClickException(f"--caller: {pretence.caller!r} is no number; write +91 and ten digits")
    state = pretended(account_id, _number(account, address), caller, digits=pretence.digits)
    client = MarkedClient(_secrets(address))
    try:
        with tempfile.TemporaryDirectory(prefix="exoflow-crm-") as folder:
            verdict = _verdict(config, account, address, state, client, Path(folder), pretence.variables)
    finally:
        client.close()
    shown = _shown(address, account, client.exchanges, verdict)
    click.echo(json.dumps(shown, ensure_ascii=False, indent=2) if as_json else _printed(address, shown))
    if not verdict.good:
        raise click.exceptions.Exit(1)


def _chosen(account_id: str, account: Account, where: str) -> Address:
    if where.startswith(("http://", "https://")):
        step = PassthruStep(passthru=Passthru(url=where), ok="", redirect="", failed="")
        flow = next(iter(account.flows))
        return Address(account_id, "", "", where, step=step, flow=flow, name=account.flows[flow].start)
    listed = list(addresses(account_id, account))
    chosen = [one for one in listed if (one.where == where if where else one.applet in ASKED)]
    if len(chosen) == 1:
        return chosen[0]
    there = "\n".join(f"  {address.where}" for address in listed)
    if not there:
        raise click.ClickException(f"{account_id}: it has no address; name a URL")
    if where:
        wrong = f"{account_id} has no address at {where!r}"
    else:
        wrong = f"{account_id} asks its CRM at {'several steps' if chosen else 'no step'}"
    raise click.ClickException(f"{wrong}; name one of these, or a URL:\n{there}")


def _number(account: Account, address: Address) -> Number | None:
    """The number that was called: the one of the address, or one that leads into its flow, or any."""
    numbers = account.numbers
    own = [one for one in numbers if one.number == address.number]
    into = [one for one in numbers if address.flow in (one.flow, one.entry)]
    plain = [one for one in numbers if one.status_callback is None] if address.applet == "status_callback" else []
    return next(iter([*own, *into, *plain, *numbers]), None)


def _secrets(address: Address) -> list[str]:
    return list(getattr(getattr(address.step, "sms", None), "headers", {}))


# --- by the functions of a call -------------------------------------------------------------------------


def _verdict(
    config: Config,
    account: Account,
    address: Address,
    state: CallState,
    client: MarkedClient,
    folder: Path,
    variables: Mapping[str, str],
) -> Verdict:
    if address.applet == CALL_BACKS and account.call_backs is not None:
        permission, why = ask_hook(client, address.account, account, account.call_backs, state, datetime.now(UTC))
        then = {"now": "the caller is called back", "never": "the call-back ends", "later": "the hook is asked again later"}
        return Verdict(permission != "later", f"{why}: {then[permission]}")
    if address.step is None:
        return _told(address, account, state, client)
    here = placed_at(
        config,
        address.account,
        account,
        address.flow,
        address.name,
        state=state,
        crm=client,
        folder=folder,
        variables=variables,
    )
    verdict = _of_step(here, address, client)
    if unset := dict.fromkeys(name for one in state.journey for name in one.evidence.get("unset", ())):
        verdict.meaning += f"; without a value, and so empty: {', '.join(unset)} (--set NAME=VALUE)"
    verdict.journey = [(one.code, one.text) for one in state.journey if one.code.startswith(SAID)]
    return verdict


def _of_step(here: Here, address: Address, client: MarkedClient) -> Verdict:
    step = _asking_only(address)
    match step.applet:
        case "passthru":
            return _passthru(here, step, client)
        case "connect":
            return _connect(here, step, address.key)
        case "greeting" | "menu" | "gather":
            return _heard(here, step, client)
    branch = str(APPLETS[step.applet].run(here, step))  # sms, page
    here.wait_for_aftermath()
    last = next(one for one in reversed(here.call.state.journey) if one.code.startswith(f"{step.applet}."))
    good = last.code == f"{step.applet}.sent"
    return Verdict(good, f"{last.text}; {_on_by(step, branch)}")


def _asking_only(address: Address) -> Any:
    """The step; for its fallback URL, as if that were the first one."""
    step = address.step
    settings = getattr(step, step.applet)
    if address.key != "fallback_url":
        return step
    return step.model_copy(update={step.applet: settings.model_copy(update={"url": address.url, "fallback_url": None})})


def _passthru(here: Here, step: PassthruStep | PassthruBesideStep, client: MarkedClient) -> Verdict:
    branch = APPLETS["passthru"].run(here, step)
    here.wait_for_aftermath()
    last = client.exchanges[-1]
    if isinstance(step, PassthruBesideStep):
        good = last.answer is not None and last.answer.status < 400
        said = "it was told" if good else f"it was not told: {_failing(here)}"
        return Verdict(good, f"{said}; the flow does not wait, {_on_by(step, str(branch))}")
    good = last.answer is not None and last.answer.status in BY_STATUS
    selected = "" if here.selected is None else f"; a `switch` selects {here.selected}"
    return Verdict(good, f"{_on_by(step, str(branch))}{selected}")


def _connect(here: Here, step: Any, key: str) -> Verdict:
    begin(here)
    connect: Connect = step.connect
    plan = planned(here, connect)
    answers = [one.evidence for one in here.call.state.journey if one.code == "crm.agents"]
    if not answers:
        return Verdict(False, f"{_failing(here)}; {_rung(here, step, plan, fallback=True)}")
    ignored = answers[-1].get("ignored")
    more = f"; not acted on: {', '.join(ignored)}" if ignored else ""
    if not answers[-1].get("numbers"):
        return Verdict(True, f"nobody is free: {_rung(here, step, plan, fallback=True)}{more}")
    return Verdict(True, f"{_rung(here, step, plan)}{more}")


def _rung(here: Here, step: Any, plan: Plan, *, fallback: bool = False) -> str:
    """Whom the plan rings, and how."""
    if not plan.candidates:
        return f"there is nobody to ring, {_on_by(step, 'unanswered')}"
    who = ", ".join(one.number for one in plan.candidates)
    group = f", group {plan.team}" if plan.team else ""
    whose = f"the step's `fallback`{group} is rung in this order" if fallback else "rung in this order"
    how = [f"{plan.how.ring} s each"]
    if plan.how.at_once > 1:
        how.append(f"{plan.how.at_once} at once")
    trunk = plan.trunk or here.call.state.facts.trunk
    if trunk:
        how.append(f"over {trunk}")
    how += [f"showing {digits} on {name}" for name, digits in plan.how.cli.items()]
    how.append("not recorded" if plan.record == "none" else f"recorded ({plan.record})")
    if plan.again:
        how.append("the CRM is asked again after each attempt that failed")
    return f"{whose}: {who}; {', '.join(how)}"


def _heard(here: Here, step: Any, client: MarkedClient) -> Verdict:
    here.answer()
    if step.applet == "gather":
        asked, kept = question_of(here, step.gather), "asked"
        is_left = asked is not None
    else:
        is_left = bool(prompts_told(here, step.asks if step.applet == "greeting" else step.menu))
        kept = "heard"
    if here.data.get(kept):
        code = "crm.gather" if step.applet == "gather" else "crm.prompt"
        evidence = next(one.evidence for one in here.call.state.journey if one.code == code)
        return Verdict(True, _words(evidence))
    without = {"greeting": "failed", "menu": "otherwise", "gather": "otherwise"}[step.applet]
    branch = without if step.branches().get(without) is not None else "next"
    then = "the step's own prompt is played" if is_left else f"there is nothing to play, {_on_by(step, branch)}"
    return Verdict(False, f"{_failing(here, client)}; {then}")


def _words(evidence: Mapping[str, Any]) -> str:
    """What a caller hears, and what a gather asks."""
    words = evidence.get("words")
    said = f"spoken: {words}" if words else f"played: {', '.join(evidence.get('audio', ()))}"
    if "digits" not in evidence:
        return said
    end = f"`{evidence['end_key']}`" if evidence.get("end_key") else "no key"
    return f"{said}; up to {evidence['digits']} digits, ended by {end}, {evidence['attempts']} times at most"


def _failing(here: Here, client: MarkedClient | None = None) -> str:
    """What the journey says of the answer that cannot be used."""
    reason = here.at.reason
    found = next((one.text for one in reversed(here.call.state.journey) if one.code == reason), "nothing came of it")
    answer = client.exchanges[-1].answer if client is not None and client.exchanges else None
    if answer is None or not reason.startswith("crm.4"):
        return found
    try:
        text_of(answer)
    except BadAnswer as bad:
        return f"{found} ({bad})"
    return found


def _on_by(step: Any, branch: str) -> str:
    target = step.branches().get(branch)
    return f"on by `{branch}`" + (f" to {target}" if target else "")


def _told(address: Address, account: Account, state: CallState, client: MarkedClient) -> Verdict:
    """A delivery, dial events or status callbacks, sent as rows of the outbox are."""
    said: list[str] = []
    good = True
    for send in tellings(address, account, state, client):
        kind, url, answer_of = send
        try:
            reason, problem = judged(answer_of(), url)
        except ExoflowError as failure:
            reason, problem = "failed", str(failure)
        good = good and not reason
        said.append(f"{kind}: {problem or 'received'}")
    return Verdict(good and bool(said), "; ".join(said) or "there is nothing to tell: no event of it is wanted")


# --- shown ----------------------------------------------------------------------------------------------


def _shown(address: Address, account: Account, exchanges: Sequence[Exchange], verdict: Verdict) -> dict[str, Any]:
    asked = [one for one in exchanges if one.method != "HEAD"]
    # audio that an answer names is fetched without parameters
    last = next((one for one in reversed(asked) if one.parameters or one.body), asked[-1] if asked else None)
    shown: dict[str, Any] = {"test": True, "url": mask_url(address.url, account.crm.mask), "timeout": address.timeout}
    if last is not None:
        shown |= {"url": last.url, "parameters": dict(last.parameters), **last.told}
    shown["requests"] = [_request(one, account) for one in exchanges]
    shown["journey"] = [{"code": code, "text": text} for code, text in verdict.journey]
    return shown | {"good": verdict.good, "meaning": verdict.meaning}


def _request(one: Exchange, account: Account) -> dict[str, Any]:
    told = {"method": one.method, "url": one.url, "headers": dict(one.headers), "parameters": dict(one.parameters)}
    if one.body:
        told["body"] = _body(one, account)
    return {**told, **one.told}


def _body(one: Exchange, account: Account) -> str:
    """As sent, without values under secret names."""
    text, mask = one.body.decode("utf-8", "replace"), account.crm.mask
    if one.headers.get("content-type", "").startswith("application/json"):
        return json.dumps(_unsaid(json.loads(text), mask), ensure_ascii=False)
    pairs = parse_qsl(text, keep_blank_values=True)
    return "&".join(f"{name}={MASK if is_secret_key(name, mask) else value}" for name, value in pairs)


def _unsaid(value: Any, mask: Sequence[str]) -> Any:
    if isinstance(value, dict):
        return {
            name: MASK if isinstance(inner, str) and is_secret_key(name, mask) else _unsaid(inner, mask)
            for name, inner in value.items()
        }
    return [_unsaid(inner, mask) for inner in value] if isinstance(value, list) else value


def _printed(address: Address, shown: Mapping[str, Any]) -> str:
    asked = f"{address.applet} at {address.where}, " if address.where else ""
    lines = [f"A test of no call ({asked}answer wanted within {shown['timeout']:g} s)"]
    for one in shown["requests"]:
        lines += _lines(one)
    lines += [f"  {line['code']}: {clean(line['text'])}" for line in shown["journey"]]
    lines.append(f"exoflow: {clean(shown['meaning'])}")
    return "\n".join(lines)


def _lines(one: Mapping[str, Any]) -> Iterator[str]:
    yield f"{one['method']} {one['url']}"
    yield from (f"    {name}: {clean(value)}" for name, value in one["headers"].items())
    yield from (f"    {name}={clean(value)}" for name, value in one["parameters"].items())
    if "body" in one:
        yield f"    {clean(one['body'][:SHOWN_BODY])}"
    if "answer" in one:
        yield f"Answer: {one['status']} in {one['ms']} ms, {clean(one['content_type'] or 'no content type')}"
        if one["method"] != "HEAD":
            yield f"    {clean(one['answer']) or '(empty)'}"
    elif "reason" in one:
        yield f"No answer: {one['reason']} after {one['ms']} ms"
