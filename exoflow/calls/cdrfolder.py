"""The folder of CDR files. Everything here touches a disk: in a thread only. Nothing raises but for faults of ours."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from exoflow.calls.cdr import SUFFIX, CallEnd, LegEnd, parse, path_of, read_file, uuid_of
from exoflow.errors import CdrError

log = logging.getLogger(__name__)

LISTED_MOST = 50_000  # names in one look, some 50 ms of a thread; what is beyond comes when these have gone
STRANGE = "strange"  # subfolder of files that are no CDRs
STRANGE_MOST = 100  # enough to see what is wrong; the oldest goes


@dataclass(frozen=True, slots=True)
class Found:
    """One file: what it says, or why it says nothing."""

    uuid: str
    age: float  # seconds since it was written
    end: CallEnd | LegEnd | None = None
    problem: str = ""  # it is no CDR, or not yet a whole one
    unreadable: str = ""  # the system does not let us read it


def listed(folder: Path) -> tuple[list[str], str]:
    """The channels that have a file, and why the folder cannot be read, if so."""
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in islice(entries, LISTED_MOST)]
    except FileNotFoundError:
        return [], ""  # FreeSWITCH makes it with the first file
    except OSError as error:
        return [], f"{folder} cannot be read ({error.strerror}); let exoflow's user into it"
    return [uuid for name in names if (uuid := uuid_of(name))], ""


def read(folder: Path, uuids: Iterable[str]) -> list[Found]:
    """The files of these channels; one that has gone meanwhile is not among them."""
    found = []
    for uuid in uuids:
        path = path_of(folder, uuid)
        try:
            # of a file from before the clock was put right, which then is of the future, nobody knows its age: it is not young
            age = abs(time.time() - os.lstat(path).st_mtime)
            found.append(_one(path, uuid, age))
        except OSError:
            continue
    return found


def _one(path: str, uuid: str, age: float) -> Found:
    try:
        end = parse(read_file(path))
    except PermissionError as error:
        return Found(uuid, age, unreadable=f"{path} cannot be read ({error.strerror}); give exoflow's user the right to")
    except CdrError as error:
        return Found(uuid, age, problem=error.problem)
    except OSError as error:
        return Found(uuid, age, problem=f"it cannot be read ({error.strerror})")
    told = end.channel if isinstance(end, CallEnd) else end.uuid
    return Found(uuid, age, end) if told == uuid else Found(uuid, age, problem=f"its name is not its channel's, {told}")


def there(folder: Path, uuid: str) -> bool:
    return os.path.exists(path_of(folder, uuid))


def remove(folder: Path, uuids: Iterable[str]) -> list[tuple[str, str]]:
    """Removes these channels' files; those that could not be, with the reason."""
    kept = []
    for uuid in uuids:
        try:
            os.unlink(path_of(folder, uuid))
        except FileNotFoundError:
            continue
        except OSError as error:
            kept.append(
                (uuid, f"{folder} does not let its files be removed ({error.strerror}); give exoflow's user the right to")
            )
    return kept


def put_aside(folder: Path, uuids: Iterable[str]) -> None:
    """Moves files that are no CDRs into a subfolder, of which the newest stay."""
    aside = folder / STRANGE
    for uuid in uuids:
        try:
            aside.mkdir(exist_ok=True)
            os.rename(path_of(folder, uuid), path_of(aside, uuid))
        except OSError as error:
            log.error("%s/%s%s is no CDR and cannot be moved away: %s", folder, uuid, SUFFIX, error.strerror)
    with suppress(OSError):
        oldest_first = sorted(aside.iterdir(), key=lambda path: path.lstat().st_mtime)
        for path in oldest_first[:-STRANGE_MOST]:
            path.unlink()
