"""The API functions that the dialplan uses inside `${…}`: without effect on anything, so that they may run here.

Sources: mod_expr.c, mod_commands.c (cond_function 2109, strepoch, file_exists), mod_dptools.c (strftime).
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from exoflow.sim.session import Session

ERROR = "-ERR"
_NUMBER = re.compile(r"[+-]?\d+(\.\d*)?\Z")
_CONDITION = re.compile(
    r"\s*('(?:[^'\\]|\\.)*'|\S+)\s+(==|!=|<=|>=|<|>)\s*('(?:[^'\\]|\\.)*'|\S+)\s+\?\s*([^:]*?)\s*(?::\s*(.*?))?\s*\Z"
)
_ARITHMETIC: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
_COMPARISONS: dict[str, Callable[[object, object], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,  # type: ignore[dict-item]
    "<=": operator.le,  # type: ignore[dict-item]
    ">": operator.gt,  # type: ignore[dict-item]
    ">=": operator.ge,  # type: ignore[dict-item]
}


def _expr(session: Session, text: str) -> str:
    """A sum of numbers; ten decimals at most, without zeros at the end."""
    try:
        value = _number(ast.parse(text.strip(), mode="eval").body)
    except (SyntaxError, ValueError, ZeroDivisionError):
        return "ERR"
    return f"{value:.10f}".rstrip("0").rstrip(".")


def _number(node: ast.expr) -> float:
    if isinstance(node, ast.Constant) and isinstance(node.value, (int, float)):
        return node.value
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_number(node.operand)
    if isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC:
        return _ARITHMETIC[type(node.op)](_number(node.left), _number(node.right))
    raise ValueError(ast.dump(node))


def _cond(session: Session, text: str) -> str:
    """`a < b ? yes : no`. Two numbers are compared as such; == and != of two texts as texts; else their lengths count."""
    found = _CONDITION.match(text)
    if found is None:
        return ERROR
    a, sign, b, yes, no = found.groups()
    texts = [side for side in (a, b) if not _NUMBER.match(side)]
    if len(texts) == 2 and sign in ("==", "!="):
        true = _COMPARISONS[sign](a.strip("'"), b.strip("'"))
    else:
        left, right = (float(side) if _NUMBER.match(side) else float(len(side.strip("'"))) for side in (a, b))
        true = _COMPARISONS[sign](left, right)
    return yes if true else no or ""


def _exists(session: Session, path: str) -> str:
    return "true" if path and Path(path).exists() else "false"


def _micros(session: Session, _: str) -> str:
    return str(session.switch.clock.judging_micros())


def _epoch(session: Session, _: str) -> str:
    return str(session.switch.clock.judging_micros() // 1_000_000)


def _strftime(session: Session, form: str) -> str:
    """The box's local time, now or at `epoch|`, behind which one character is left out (mod_dptools.c:2047)."""
    epoch, bar, rest = form.partition("|")
    if bar and _NUMBER.match(epoch):
        return datetime.fromtimestamp(float(epoch)).strftime(rest[1:])
    return datetime.fromtimestamp(session.switch.clock.micros() / 1e6).strftime(form)


FUNCTIONS: dict[str, Callable[[Session, str], str]] = {
    "expr": _expr,
    "cond": _cond,
    "file_exists": _exists,
    "strepoch": _epoch,
    "strftime": _strftime,
    "strmicroepoch": _micros,
}
