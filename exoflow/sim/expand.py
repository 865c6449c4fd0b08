"""Variable expansion in arguments, as harmful as FreeSWITCH's (switch_channel.c:4060-4320): values are expanded again, and
`${api args}` runs. Here nothing runs: an API or shell call leaves the mark `<RAN name args>` and is counted as a violation.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from exoflow.sim.session import Session

MAX_DEPTH = 20  # of values that hold further variables; FreeSWITCH stops at 100
_VARIABLE = re.compile(r"(\\*)\$\$?\{([^{}]*)\}")
_NAME = re.compile(r"[A-Za-z0-9_.:-]+(\[\d+\])?\Z")


def expand(session: Session, text: str, depth: int = 0) -> str:
    """`text` with each `${…}` replaced. One pass eats a backslash before the dollar, so an escape holds only once."""
    if "${" not in text or depth > MAX_DEPTH:
        return text

    def replace(found: re.Match[str]) -> str:
        slashes, inner = found[1], found[2]
        if slashes:
            return found[0][1:]
        if _NAME.match(inner):
            value = session.channel.variables.get(inner) or session.switch.globals.get(inner, "")
            return expand(session, value, depth + 1)
        session.switch.complain("api_expansion", f"${{{inner}}} ran as an API command", session)
        return f"<RAN {inner}>"

    return _VARIABLE.sub(replace, text)
