"""The door from values to texts that leave exoflow, with any value: no field is ended, no line begun, nothing filled twice."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from email import message_from_bytes
from email.policy import default
from types import SimpleNamespace
from typing import Any, cast
from urllib.parse import parse_qsl, urlencode

from hypothesis import given
from hypothesis import strategies as st

from exoflow.calls.model import CallFacts, CallState
from exoflow.config.model import Mail
from exoflow.config.stepbase import MAIL_ADDRESS, MAX_MAIL_ADDRESS
from exoflow.config.values import MAX_VARIABLE_CHARS
from exoflow.crm.smtp import _message
from exoflow.flow.here import Here
from exoflow.flow.templates import MAX_FILLED, Texts

ANY = st.text(st.characters(codec=None), max_size=MAX_VARIABLE_CHARS + 50)


def texts(**variables: str | int) -> Texts:
    facts = CallFacts("0" * 32, "c", datetime.now(UTC), "PRI1", "2400", "", caller="+919811100001", flow="main")
    account = SimpleNamespace(name="Acme", time_zone="Asia/Kolkata")
    call = SimpleNamespace(state=CallState(facts))
    known = SimpleNamespace(variables=variables, account=account, call=call, step="s", flow_name="main(a=1)", digits="42")
    return Texts(cast(Here, known))


def cleaned(value: str) -> str:
    return "".join(c if c.isprintable() else " " for c in value)[:MAX_VARIABLE_CHARS]


@given(ANY)
def test_a_value_is_one_line_and_is_never_filled_again(value: str) -> None:
    assert texts(it=value).line("<{it}>{{it}}") == f"<{cleaned(value)}>{{it}}"
    assert texts(it=value).text("a\n{it}\nb").split("\n") == ["a", cleaned(value), "b"]


@given(ANY, ANY)
def test_a_value_stays_in_its_field(one: str, two: str) -> None:
    filled = texts(one=one, two=two)
    body = json.dumps(filled.json({"a": "{one}", "list": [{"b": "x{two}"}], "n": 5, "t": True}))
    assert json.loads(body) == {"a": cleaned(one), "list": [{"b": "x" + cleaned(two)}], "n": 5, "t": True}
    form = urlencode([("a", filled.text("{one}")), ("b", filled.text("{two}"))]).encode().decode("ascii")
    assert parse_qsl(form, keep_blank_values=True) == [("a", cleaned(one)), ("b", cleaned(two))]


@given(
    ANY,
    ANY,
    st.lists(
        st.from_regex(MAIL_ADDRESS.strip("^$"), fullmatch=True).filter(lambda address: len(address) <= MAX_MAIL_ADDRESS),
        min_size=1,
        max_size=3,
    ),
)
def test_a_mail_has_our_headers_and_no_others(subject: str, value: str, to: list[str]) -> None:
    filled = texts(subject=subject, it=value)
    mail = Mail.model_validate({"from": "calls@acme.example"})
    made = _message(mail, to, filled.line("{subject}"), filled.text("Value:\n{it}\n.\nend"), "0" * 32)
    names = [name.lower() for name in message_from_bytes(made.as_bytes(), policy=default)]
    ours = ["from", "to", "subject", "date", "message-id", "auto-submitted", "x-exoflow-call"]
    assert sorted(names) == sorted([*ours, "content-type", "content-transfer-encoding", "mime-version"])


def test_what_has_no_value_is_told_once_and_left_empty() -> None:
    filled = texts(known="x")
    assert filled.line("{known}{whom}{whom}{dialled}") == "x"
    assert filled.unset == ["whom", "dialled"]
    assert len(texts(it="y" * 200).line("{it}" * 400)) == MAX_FILLED


def test_what_every_call_has() -> None:
    found: dict[str, Any] = {name: texts().line(f"{{{name}}}") for name in ("account", "caller", "digits", "flow", "step")}
    assert found == {"account": "Acme", "caller": "+919811100001", "digits": "42", "flow": "main", "step": "s"}
