"""Whatever `exoflow check` passes, `exoflow serve` starts with, or it ends with the cure: over configurations of many kinds."""

from __future__ import annotations

import copy
import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, get_args

import gevent
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from exoflow.commands.serve import _why
from exoflow.config.load import load
from exoflow.config.model import Account, Config, Main
from exoflow.errors import ExoflowError
from exoflow.serve import Service

EXAMPLES = 100  # most end at `load`; one that starts takes a tenth of a second
NOT_TOLD = "cannot start: ["  # the errno of an error for which no cure is known

BASE_MAIN: dict[str, Any] = {
    "switch": {"listen": "127.0.0.1:0", "event_socket": {"port": 1, "password": "x"}, "recordings": "recordings"},
    "store": "sqlite:///exoflow.db",
    "prompts": {"engine": "text", "folder": "prompts"},
    "trunks": {"PRI1": {"span": "PRI1", "std_code": "80"}},
    "accounts": "accounts/*.yaml",
    "spill": "spill",
    "web": {"listen": "127.0.0.1:0", "public_url": "https://calls.example"},
    "mail": {"smtp": "127.0.0.1:25", "from": "pbx@acme.example"},
}
BASE_ACCOUNT: dict[str, Any] = {
    "name": "Acme",
    "deliveries": {"url": "https://crm.example/deliveries"},
    "numbers": [{"number": "+918030752400", "trunk": "PRI1", "flow": "main"}],
    "agents": {"asha": {"number": "+919876543210"}},
    "groups": {"desk": {"agents": ["asha"]}},
    "flows": {
        "main": {
            "start": "hi",
            "steps": {
                "hi": {"greeting": {"say": "Hi."}, "next": "desk"},
                "desk": {"connect": {"group": "desk"}, "answered": "bye", "unanswered": "bye"},
                "bye": {"hangup": {}},
            },
        }
    },
}

PATHS = [
    "a-file", "a-file/below", "nowhere/at/all", "/proc/nowhere", "/dev/null", "a-folder",
    "dangling", "", ".", "..", "~", "two words", "ஃ", "x" * 300, "nul\0", "new\nline", "[glob]*?",
    "100%", "a;b", "C:\\exo", "a-loop", "a-folder/../a-file",
]  # fmt: skip
ADDRESSES = [
    "127.0.0.1:0", "localhost:0", "[::1]:0", "192.0.2.1:0",
    "127.0.0.1:65535", "127.0.0.1:65536", "[:::]:0", "no-such-host.invalid:0", "..:0",
    "x" * 300 + ":0", "1.2.3.4.5:0", "[fe80::1]:0", "127.1:0", "-:0", "a..b:0",
]  # fmt: skip
TEXTS = [
    "", " ", "x", "ஃ", "x" * 5000, "new\nline", "nul\0", "\ud800", "{name}", "{", "%s", "\u202e",
    "sqlite:///", "sqlite:///:memory:", "sqlite:///a-file", "sqlite:///a-folder",
    "sqlite:///a-folder/x?mode=ro", "sqlite:///nowhere/x.db", "sqlite:////proc/x.db",
    "sqlite:///" + "x" * 300, "sqlite:///nul\0", "sqlite:///%00", "sqlite:///file:x",
    "Asia/Dubai", "UTC", "Etc/GMT+14", "localtime", "Factory", "posixrules", "../UTC",
    "/etc/localtime", "right/UTC", "ASIA/DUBAI", "accounts", "**/*.yaml", "accounts/[", "en",
    "hi", "espeak-ng", "no-such-program {text} {wav}", "'", "https://calls.example",
    "http://[::1]/", "http://a:99999", "+919876543210",
]  # fmt: skip
ODD: list[Any] = [None, True, 0, 1, -1, 65535, 65536, 10**30, 0.5, 1e308, [], {}, [[]], {"": ""}, ["asha", "asha"]]

# of an account; what else is in it has no part in starting, and its own tests
START_READS = frozenset(
    {"name", "time_zone", "language", "holidays", "groups", "deliveries", "crm", "fallback"} | {"call_backs", "recordings"}
)
Place = tuple[str, ...]


def places(model: type[BaseModel], above: Place = ()) -> Iterator[tuple[Place, str]]:
    """Each key of a model and of those in it, with its annotation."""
    for name, field in model.model_fields.items():
        where = (*above, field.alias or name)
        yield where, repr(field)
        for inner in _models(field.annotation):
            if len(where) < 4:
                yield from places(inner, where)


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif not str(annotation).startswith(("dict", "list")):
        for part in get_args(annotation):
            yield from _models(part)


def fitting(where: Place, annotation: str) -> list[Any]:
    """Values that may get past the model for a key."""
    if where[-1] in ("recordings", "cdr", "fallback", "folder", "spill") or "Path" in annotation:
        return PATHS
    if where[-1] in ("listen", "smtp", "host"):
        return ADDRESSES
    return TEXTS if "str" in annotation else ODD


MAIN_PLACES = list(places(Main))
ACCOUNT_PLACES = [(where, kind) for where, kind in places(Account) if where[0] in START_READS]


def changes(of: list[tuple[Place, str]]) -> st.SearchStrategy[list[tuple[Place, Any]]]:
    """One or two keys with other values: with more of them hardly any configuration is good."""
    one = st.sampled_from(of).flatmap(lambda place: st.tuples(st.just(place[0]), st.sampled_from(fitting(*place))))
    return st.lists(one, max_size=2)


def changed(base: dict[str, Any], to: list[tuple[Place, Any]]) -> dict[str, Any]:
    made = copy.deepcopy(base)
    for where, value in to:
        inside = made
        for key in where[:-1]:
            if not isinstance(inside.get(key), dict):
                inside[key] = {}
            inside = inside[key]
        inside[where[-1]] = copy.deepcopy(value)
    for section in ("switch", "web"):
        if isinstance(made.get(section), dict):
            made[section].setdefault("listen", "127.0.0.1:0")
    return made


def written(folder: Path, main: dict[str, Any], account: dict[str, Any]) -> Path:
    (folder / "accounts").mkdir()
    (folder / "a-folder").mkdir()
    (folder / "a-file").write_text("text")
    (folder / "dangling").symlink_to(folder / "gone")
    (folder / "a-loop").symlink_to(folder / "a-loop")
    (folder / "exoflow.yaml").write_text(json.dumps(main))
    (folder / "accounts" / "acme.yaml").write_text(json.dumps(account))
    return folder / "exoflow.yaml"


def started(config: Config) -> str:
    """What keeps it from starting; nothing if it listens."""
    service: Service | None = None
    try:
        service = Service(config)
        service.start()
        gevent.idle()
        assert service.address[1] > 0
    except ExoflowError as error:
        return f"cannot start: {error}"
    except OSError as error:
        return _why(config, error)
    finally:
        if service is not None:
            service.stop()
    return ""


@settings(
    max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(changes(MAIN_PLACES), changes(ACCOUNT_PLACES))
def test_what_check_passes_starts_or_says_the_cure(
    monkeypatch: pytest.MonkeyPatch, of_main: list[tuple[Place, Any]], of_account: list[tuple[Place, Any]]
) -> None:
    broken: list[Any] = []
    monkeypatch.setattr(gevent.get_hub(), "print_exception", lambda *error: broken.append(error))
    with _folder() as folder:
        found = load(written(folder, changed(BASE_MAIN, of_main), changed(BASE_ACCOUNT, of_account)))
        if found.config is None:
            assert found.errors
            return
        said = started(found.config)
    assert NOT_TOLD not in said, said
    assert broken == []


@pytest.mark.parametrize(
    ("where", "value", "told"),
    [
        (("switch", "event_socket", "host"), "..", "no host"),
        (("switch", "event_socket", "host"), "127.0.0.1:8021", "no host"),
        (("switch", "event_socket", "host"), "nul\0", "no host"),
        (("switch", "listen"), "x" * 300 + ":0", "no host"),
        (("web", "listen"), "[:::]:0", "no host"),
        (("mail", "smtp"), "a..b:25", "no host"),
        (("store",), "sqlite:///nul\0", "control character"),
        (("switch", "cdr"), "nul\0", "control character"),
        (("spill",), "new\nline", "control character"),
    ],
)
def test_what_no_library_takes_is_found(where: Place, value: str, told: str) -> None:
    with _folder() as folder:
        found = load(written(folder, changed(BASE_MAIN, [(where, value)]), BASE_ACCOUNT))
    assert [finding for finding in found.errors if told in str(finding)], found.errors


class _folder:
    """A folder for one example; whatever lies in it then goes."""

    def __enter__(self) -> Path:
        self.path = Path(tempfile.mkdtemp(prefix="exoflow-"))
        return self.path

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            shutil.rmtree(self.path, ignore_errors=True)
