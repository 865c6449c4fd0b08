"""Deliveries that people want to be sent again. Only the serving process writes the store, so `exoflow deliveries send` leaves
an empty file for each in a folder beside it, named by the webhook-id; here they are found and set pending.

What is left while nobody serves is done at the next start. A file goes after its row has changed: at worst a delivery is sent
twice, under its one id.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import gevent
from gevent.threadpool import ThreadPool

from exoflow.clock import utcnow
from exoflow.errors import StoreError
from exoflow.store import outbox
from exoflow.store.sqlite import Store
from exoflow.threads import in_thread

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0  # between two looks into the folder; who sends by hand waits as long
MOST_A_LOOK = 500  # wishes in one transaction, some 10 ms of the writer; the rest comes with the next look
FOLDER_MODE = 0o700  # who may send is who may read the store: its own user, and root

_ID = re.compile(r"msg_[0-9a-f]{32}")


def folder_of(store: Path) -> Path:
    """Where wishes for the deliveries of this store lie."""
    return store.with_name(store.name + ".resend")


def wish(folder: Path, webhook_id: str) -> Path:
    """Leaves the wish; its file, which goes when it is taken. Raises OSError, FileNotFoundError if nobody ever served."""
    path = folder / webhook_id
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
    return path


class Resends:
    """Looks from `start()` to `stop()`."""

    def __init__(self, store: Store, wake: Callable[[], None]) -> None:
        """`wake` is called when rows have become due."""
        self._store, self._wake = store, wake
        self._folder = folder_of(store.path)
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
                log.info("deliveries to be sent again wait for the store: %s", error)
            except OSError as error:
                if self._problem != str(error):
                    self._problem = str(error)
                    log.error("%s: deliveries cannot be sent again by hand: %s", self._folder, error.strerror)
            except Exception:
                log.exception("deliveries cannot be sent again by hand; trying on")
            gevent.sleep(LOOK_SECONDS)

    def look(self) -> None:
        """Takes what is there. Raises StoreError, OSError."""
        ids, strange = in_thread(_found, self._folder, pool=self._threads)
        if ids:
            changed = self._store.write(lambda c: outbox.again(c, ids, utcnow()))
            log.info("%d deliveries are sent again by hand", changed)
            self._wake()
        if strange:
            log.warning("%s: %d files that name no delivery are removed", self._folder, len(strange))
        if ids or strange:
            in_thread(_remove, self._folder, [*ids, *strange], pool=self._threads)


def _found(folder: Path) -> tuple[list[str], list[str]]:
    """In a thread: ids, and names that are none."""
    folder.mkdir(mode=FOLDER_MODE, exist_ok=True)
    ids: list[str] = []
    strange: list[str] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            (ids if _ID.fullmatch(entry.name) else strange).append(entry.name)
            if len(ids) + len(strange) == MOST_A_LOOK:
                break
    return ids, strange


def _remove(folder: Path, names: list[str]) -> None:
    for name in names:
        with suppress(FileNotFoundError, IsADirectoryError):
            os.unlink(folder / name)
