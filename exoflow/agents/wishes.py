"""Agents whom somebody wants on or off from the command line. Only the serving process writes the store and decides who is
rung, so `exoflow agents on` leaves a file in a folder beside the store; here it is found and done.

What is left while nobody serves is done at the next start. A file goes after its wish is on disk; of two for one agent the
later one replaces the earlier.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import gevent
from gevent.event import AsyncResult
from gevent.threadpool import ThreadPool

from exoflow.errors import StoreError
from exoflow.threads import in_thread

log = logging.getLogger("exoflow.agents")

LOOK_SECONDS = 1.0  # between two looks into the folder; who switches by hand waits as long
MOST_A_LOOK = 500  # wishes; the rest comes with the next look
MAX_BYTES = 2000  # of a wish: two names of at most 64 characters; more is not ours
DISK_SECONDS = 10.0  # for the commit; a wish that is not on disk by then stays and is done again
FOLDER_MODE = 0o700  # who may switch is who may read the store: its own user, and root


class Wish(NamedTuple):
    account: str
    agent: str  # his name in the account's file
    available: bool


def folder_of(store: Path) -> Path:
    """Where the wishes lie."""
    return store.with_name(store.name + ".agents")


def leave(folder: Path, wish: Wish) -> Path:
    """Leaves the wish; its file, which goes when it is done. Raises OSError, FileNotFoundError if nobody ever served."""
    name = hashlib.sha256(f"{wish.account}/{wish.agent}".encode()).hexdigest()[:32]
    path, draft = folder / name, folder / f".{name}.{os.getpid()}"
    draft.write_text(json.dumps(wish._asdict()))
    draft.replace(path)
    return path


class Wishes:
    """Looks from `start()` to `stop()`."""

    def __init__(self, store: Path, switch: Callable[[Wish], AsyncResult | None]) -> None:
        """`switch` does a wish; its result is set when that is on disk. None: there is no such agent."""
        self._switch = switch
        self._folder = folder_of(store)
        self._threads = ThreadPool(1)
        self._loop: gevent.Greenlet | None = None
        self._problem = ""

    def start(self) -> None:
        self._loop = gevent.spawn(self._run)

    def stop(self) -> None:
        if self._loop is not None:
            self._loop.kill()
        self._threads.kill()

    def _run(self) -> None:
        while True:
            try:
                self.look()
                self._problem = ""
            except StoreError as error:  # an ailing store says so itself, once
                log.info("agents to be switched wait for the store: %s", error)
            except OSError as error:
                if self._problem != str(error):
                    self._problem = str(error)
                    log.error("%s: agents cannot be switched by hand: %s", self._folder, error.strerror)
            except Exception:
                log.exception("agents cannot be switched by hand; trying on")
            gevent.sleep(LOOK_SECONDS)

    def look(self) -> None:
        """Does what is there. Raises StoreError, OSError."""
        found: list[tuple[Path, int, Wish | None]] = in_thread(_found, self._folder, pool=self._threads)
        done = []
        for path, version, wish in found:
            result = None if wish is None else self._switch(wish)
            if result is None:
                log.warning("%s names no agent that there is: removed", path)
            else:
                result.wait(DISK_SECONDS)
                if not (result.ready() and result.successful()):
                    continue
            done.append((path, version))
        if done:
            in_thread(_remove, done, pool=self._threads)


def _found(folder: Path) -> list[tuple[Path, int, Wish | None]]:
    """In a thread: files with their version, and what they wish; None for what is no wish."""
    folder.mkdir(mode=FOLDER_MODE, exist_ok=True)
    names = sorted(name for name in os.listdir(folder) if not name.startswith("."))
    return [(path, path.stat().st_ino, _read(path)) for path in (folder / name for name in names[:MOST_A_LOOK])]


def _read(path: Path) -> Wish | None:
    try:
        with path.open("rb") as file:
            wish = Wish(**json.loads(file.read(MAX_BYTES)))
    except (OSError, ValueError, TypeError):
        return None
    good = isinstance(wish.account, str) and isinstance(wish.agent, str) and isinstance(wish.available, bool)
    return wish if good else None


def _remove(done: list[tuple[Path, int]]) -> None:
    for path, version in done:
        with suppress(FileNotFoundError, IsADirectoryError):
            if path.stat().st_ino == version:  # a later wish may have taken its place
                path.unlink()
