"""What a check has to say to the engineer: one line a mistake, at the place of the mistake, with the cure."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Level = Literal["error", "warning"]

MANY_NAMES = 100  # up to here every name is compared; above, those that begin or end alike
SHOWN_NAMES = 12
DID_YOU_MEAN = "; did you mean `"


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """`line` and `col` count from 1; a line of 0 means the file as a whole."""

    path: Path
    line: int
    col: int
    level: Level
    code: str
    message: str

    def __str__(self) -> str:
        place = f"{self.path}:{self.line}:{self.col}" if self.line else f"{self.path}"
        return f"{place}: {self.level}: {self.code} {self.message}"


def did_you_mean(wrong: str, known: Iterable[str]) -> str:
    """`; did you mean `x`?` for a near miss, else what there is to choose from."""
    names = sorted(set(known))
    if len(names) > MANY_NAMES:  # 2,000 misspelt branches against 2,000 steps would take seconds
        names = [n for n in names if n[:2] == wrong[:2] or n[-2:] == wrong[-2:]]
    # case first: difflib does not see that `Support` and `support` are one word
    near = [n for n in names if n.lower() == wrong.lower()] or difflib.get_close_matches(wrong, names, n=1, cutoff=0.6)
    if near:
        return f"{DID_YOU_MEAN}{near[0]}`?"
    if not names:
        return ""
    shown = ", ".join(names[:SHOWN_NAMES]) + (", …" if len(names) > SHOWN_NAMES else "")
    return f"; there is: {shown}"


@dataclass(frozen=True, slots=True)
class Rule:
    """One kind of mistake. The code is stable: scripts and editors go by it."""

    code: str
    title: str
    why: str

    @property
    def level(self) -> Level:
        return "error" if self.code.startswith("E") else "warning"


RULES = {
    code: Rule(code, title, why)
    for code, title, why in (
        ("E101", "file cannot be read", "Every file that the main file names must be there and readable by exoflow's user."),
        ("E102", "file too large", "1 MiB holds some 6,000 steps; more is a mistake or an attack."),
        ("E103", "not UTF-8 text", "Other encodings and control characters come out as noise in prompts."),
        ("E104", "not YAML", "The text cannot be read as YAML: indentation, quotes, brackets."),
        ("E105", "limit passed", "Nesting, number of values, length of a value and kinds of keys are bounded."),
        ("E106", "empty file or second document", "One file is one mapping."),
        ("E107", "tag", "`!tags` could build objects; plain values are all that is needed."),
        ("E108", "alias without anchor", "`*name` needs `&name` before it."),
        ("E109", "merge of no mapping", "`<<` takes what another mapping has."),
        ("E110", "duplicate key", 'Of two equal keys one would silently be lost; `1` and `"1"` are the same key of a phone.'),
        (
            "E111",
            "file of the other kind",
            "Main and account files have different keys; `-c` takes the main file.",
        ),
        ("E201", "unknown key", "A misspelt key would silently not work."),
        ("E202", "missing key", "The value has no default."),
        ("E203", "wrong type", "Text, number, list or mapping in the wrong place; `+91…`, `0123`, `12:30`, `no` are texts."),
        ("E204", "value not allowed", "Out of range, too long, or not one of the choices."),
        ("E205", "step without exactly one applet", "What a step does is told by one key, e.g. `menu:`."),
        ("E206", "keys that do not fit together", "One of them is missing or one too many."),
        ("E301", "unknown step", "A branch leads to a step that the flow has not."),
        ("E302", "unknown flow", "A number names a flow that the account has not."),
        ("E303", "unknown group", "A step rings a group that the account has not."),
        ("E304", "unknown agent", "A group names an agent that the account has not."),
        ("E305", "unknown trunk", "A number stands on a trunk that the main file has not."),
        ("E306", "unknown time zone", "Recordings' folders and opening hours go by it; names as in the tz database."),
        ("E307", "unknown hangup cause", "Causes go by FreeSWITCH's names, so that the exchange hears what was meant."),
        ("E308", "call-back without rules", "Nobody is called back unless the account says when, and who may not be."),
        (
            "E311",
            "unknown variable",
            "Nothing gives it a value, or none can stand there, so that there would be a gap in the text.",
        ),
        ("E312", "mail without a server", "The main file's `mail` tells which server takes mails, and from whom they come."),
        ("W313", "message without a receiver or signature", "It could not be sent, or its receiver could not trust it."),
        ("E321", "flow's values", "A flow's parameters each need a value of their type, and take no others."),
        ("E322", "parameter in a text", "A `{name}` is a parameter's or a variable's; each type of parameter has its keys."),
        ("W323", "parameter that no step uses", "Its values would change nothing."),
        ("E324", "holidays of a country", "They come from the `holidays` library, which must be there and know the country."),
        ("W310", "flow that nobody comes to", "No number uses it, and no transfer from a flow that one uses."),
        ("E401", "endless loop", "The steps lead in a circle and no caller ever gets a choice or an end."),
        (
            "W402",
            "loop that only the CRM or the clock ends",
            "Until a step goes another way the caller goes round without a choice.",
        ),
        ("W403", "step that nobody reaches", "No branch leads to it from the flow's start."),
        ("E501", "number claimed twice", "A call to it could not be given to one account and flow."),
        ("E502", "dialled digits claimed twice", "The exchange's digits would mean two numbers."),
        ("W503", "numbers with the same end", "If the exchange sends only that end, such a call is nobody's."),
        ("E504", "not a telephone number", "Numbers become E.164 when they are loaded."),
        ("E505", "number that cannot be rung", "Only valid Indian fixed, mobile and toll-free numbers are ever dialled."),
        ("E506", "number diverted from itself", "A diversion to itself is a loop at the operator."),
        ("W507", "two agents with one number", "A number is claimed before it is rung, so that both are engaged together."),
        (
            "E601",
            "text that cannot be spoken",
            "There is neither an engine to render it nor a file, so callers would hear nothing.",
        ),
        ("E602", "sound file missing", "A missing prompt burns all the menu's attempts without collecting a key."),
        ("W603", "prompts not rendered yet", "`exoflow serve` needs the files."),
        ("E604", "engine's command", "A command needs {text} and {wav} as arguments of their own."),
        ("E605", "text without the account's language", "It is what callers hear who chose none, or one that is missing."),
        ("W606", "text missing in a language", "A caller who chose that language hears the account's instead."),
        ("W607", "language without a voice", "The voice of another language would read it."),
        ("W608", "value without words in a language", "A caller who chose that language hears the value in another one."),
        (
            "W609",
            "CRM's texts without an engine",
            "A text that the CRM gives, or that is a value in a text, could not be spoken.",
        ),
        (
            "E610",
            "name that FreeSWITCH misreads",
            "Blanks, brackets and the like change its commands; a tone would be heard.",
        ),
        ("W611", "no sound", "FreeSWITCH could not open it, and a tone would be heard in its place."),
        (
            "W612",
            "sound that FreeSWITCH may not read",
            "FreeSWITCH's own user must enter each folder above it.",
        ),
        ("E701", "secret file", "The file of a password or secret cannot be read or is empty."),
        ("E702", "environment variable not set", "`${NAME}` takes a secret from the environment."),
        ("E703", "malformed secret", "Standard Webhooks: `whsec_` and base64 of 24 to 64 bytes."),
        ("W704", "deliveries without secret", "The CRM could not tell our deliveries from anybody else's."),
        ("W705", "event socket without password", "FreeSWITCH's event socket asks for one."),
        ("W706", "no folder of CDR files", "How calls end while exoflow is away is in FreeSWITCH's CDR files."),
        ("W707", "no folder for the fallback", "What FreeSWITCH does by itself while exoflow is away is written into it."),
        ("E801", "not a web address", "CRMs are asked by http or https; scheme, host and port are written out."),
        ("E802", "not a network", "Networks are written as address/bits."),
        ("W803", "private address not allowed", "The HTTP client refuses private addresses that the account does not allow."),
        ("E804", "store", "This version keeps its data in SQLite, in a file with a printable name."),
        (
            "W805",
            "recordings that nobody can fetch",
            "Addresses, and `{recording}`, need `web.public_url`, and a key where one is asked for.",
        ),
        ("W806", "placing calls without a key", "Who places calls shows a key of the account."),
        ("W807", "keys of an API that is not served", "The APIs of calls and agents are on `web.listen`."),
        ("E808", "two on one port", "Only one of them could listen, or one of them would be asked in the other's place."),
        ("E901", "two files of one account", "The file's name is the account's id."),
        ("E902", "account's file name", "The id stands in URLs, logs and folders."),
        ("E903", "no account", "Every call would be refused, and a reload would take the accounts away."),
    )
}


def finding(code: str, message: str, path: Path, line: int = 1, col: int = 1) -> Finding:
    return Finding(path, line, col, RULES[code].level, code, message)


def rules_page() -> str:
    """The text of docs/config-findings.md."""
    rows = "\n".join(f"| {r.code} | {r.level} | {r.title} | {r.why} |" for r in RULES.values())
    return f"""# What `exoflow check` finds

Each finding is a line `path:line:col: error|warning: CODE message` at the place of the mistake; its message names the
cure. With an error the configuration is not taken (`exoflow check` exits with 1); warnings are told and it is taken.
Codes are stable. This page is written by `python -m exoflow.config.findings > docs/config-findings.md`.

| code | level | what | why |
| --- | --- | --- | --- |
{rows}
"""


if __name__ == "__main__":
    print(rules_page(), end="")
