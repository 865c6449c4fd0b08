"""The one door from values to texts that leave exoflow: `{name}` is filled, and what could become something else is taken out.

Nothing of it reaches the switch. JSON and forms are built from mappings whose texts are filled first and encoded as a whole
afterwards, so that a value can end no string and begin no field. In an address each value is percent-encoded where it stands,
so that it can begin no further part of it. A value is put in once: braces in it are braces.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote, unquote
from zoneinfo import ZoneInfo

from exoflow.calls.model import CallOutcome
from exoflow.characters import one_line
from exoflow.clock import utcnow
from exoflow.config.templates import BUILT_IN, filled, is_template, names_in
from exoflow.config.values import MAX_VARIABLE_CHARS
from exoflow.crm.mask import mask_url
from exoflow.flow.outcome import GOOD_ENDS, outcome_of

if TYPE_CHECKING:
    from exoflow.flow.here import Here

MAX_FILLED = 5000  # characters of one text with its values in it
TIME_FORM = "%Y-%m-%d %H:%M"  # of `{time}`
MAX_RECORDING_CHARS = 2000  # of the address of a recording, which no caller and no CRM has written
_BRACES = str.maketrans({"{": "%7B", "}": "%7D"})  # in an address, where no server takes them as they are
# of a header's value: printable ASCII without the percent sign, which begins what is encoded
_PLAIN = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%")


class Address(NamedTuple):
    """A step's address with its values. `shown` is masked, and has stars for secret digits; `unset` names had no value;
    `written` is the address as the configuration has it."""

    url: str
    shown: str
    unset: list[str]
    written: str


class Texts:
    """Fills templates with what a call knows at this moment; `unset` are the names that had no value.

    `seen`: for what people or records will show; secret digits are stars in it.
    """

    def __init__(self, here: Here, *, seen: bool = False) -> None:
        self._here, self._seen = here, seen
        self._variables = here.hidden.shown(here.variables) if seen else here.variables
        self._safe = "*" if seen else ""  # stars that stand for digits
        self.unset: list[str] = []

    def line(self, template: str) -> str:
        """One line: a journey's, a subject, a field. Control characters become spaces."""
        return filled(template, self._value, one_line)[:MAX_FILLED]

    def text(self, template: str) -> str:
        """Several lines. The template's own line ends stay; a value is one line."""
        return "\n".join(self.line(line) for line in template.splitlines())

    def json(self, value: Any) -> Any:
        """A JSON body's mapping with every text in it filled."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {key: self.json(item) for key, item in value.items()}
        return [self.json(item) for item in value] if isinstance(value, list) else value

    def header(self, template: str) -> str:
        """A header's value: what is no printable ASCII in a variable, and its percent signs, are percent-encoded as UTF-8."""
        return filled(template, lambda name: quote(self._value(name), safe=_PLAIN)).strip()[:MAX_FILLED]

    def url(self, template: str) -> str:
        """An address. Scheme, host and port are as they are written; a value in the path is within its segment, and one in the
        query within its parameter. One that would make the segment `.` or `..` counts as none."""
        path, question, query = template.partition("#")[0].partition("?")
        begin = path.find("/", path.find("://") + 3)
        begin = len(path) if begin < 0 else begin
        segments = "/".join(self._segment(segment) for segment in path[begin:].split("/"))
        return path[:begin] + segments + question + filled(query, self._quoted, _url_text)

    def _segment(self, template: str) -> str:
        segment = filled(template, self._quoted, _url_text)
        if unquote(segment) in (".", "..") and (names := names_in(template)):
            self.unset += [name for name in names if name not in self.unset]
            return filled(template, lambda name: "", _url_text)
        return segment

    def _quoted(self, name: str) -> str:
        return quote(self._value(name), safe=self._safe)

    def _value(self, name: str) -> str:
        if self._seen and name == "digits":
            value = self._here.call.state.digits
        else:
            value = built_in(self._here, name) if name in BUILT_IN else str(self._variables.get(name, ""))
        if not value and name not in self.unset:
            self.unset.append(name)
        return one_line(value)[: MAX_RECORDING_CHARS if name == "recording" else MAX_VARIABLE_CHARS]


def address(here: Here, template: str) -> Address:
    """Where a step asks or sends to, now."""
    if not is_template(template):
        return Address(template, mask_url(template, here.account.crm.mask), [], template)
    real, seen = Texts(here), Texts(here, seen=True)
    url = real.url(template)
    return Address(url, mask_url(seen.url(template), here.account.crm.mask), real.unset, template)


def built_in(here: Here, name: str) -> str:
    """What every call knows: one of BUILT_IN."""
    facts = here.call.state.facts
    match name:
        case "account":
            return here.account.name
        case "call":
            return facts.id
        case "caller":
            return "" if facts.caller_withheld else facts.caller or ""
        case "dialled":
            return facts.dialled or ""
        case "digits":
            return here.digits
        case "flow":
            return here.flow_name.partition("(")[0]  # without the values of its parameters
        case "step":
            return here.step
        case "time":  # at which the step began, also when the call has come back
            return here.call.state.progress.get("time") or local_time(here, utcnow())
        case "outcome":
            return _outcome(here)
        case "reason":
            return "" if _outcome(here) in GOOD_ENDS else here.at.reason
    return _recording(here)


def _outcome(here: Here) -> CallOutcome:
    """What the call would have come to if its flow ended here."""
    return outcome_of(here.call.state, here.at.passed_over, flow_ended=True)


def local_time(here: Here, at: datetime) -> str:
    """In the account's zone, as `{time}` has it."""
    return at.astimezone(ZoneInfo(here.account.time_zone)).strftime(TIME_FORM)


def _recording(here: Here) -> str:
    """Where the last recording can be fetched; empty without `web.public_url`."""
    state, links = here.call.state, here.parts.links
    usable = [recording for recording in state.recordings if recording.state != "failed"]
    return "" if links is None or not usable else links.urls(state, here.account, utcnow())(usable[-1])


def _url_text(text: str) -> str:
    return text.translate(_BRACES)
