"""Opening a store: the file is found, locked, recognised, brought to the newest revision, and only then used.

A file that is a stranger's, damaged or made by a newer exoflow is refused with its path and the cure; it is never recreated.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

from sqlalchemy import create_engine
from sqlalchemy.engine import Connection, Engine, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.pool import NullPool

from exoflow.errors import StoreError
from exoflow.store.leftover import left_open
from exoflow.store.lock import Lock
from exoflow.store.spill import Spill
from exoflow.store.sqlite import Store
from exoflow.store.tables import APPLICATION_ID, HEAD
from exoflow.store.troubles import PASSING, StoreTrouble, trouble
from exoflow.store.writer import Writer

log = logging.getLogger(__name__)

T = TypeVar("T")

SQLITE = "sqlite:///"  # begins a store's address; then comes its file
MODE = 0o600  # callers' numbers are in it, and configurations that may have passwords in them
BUSY_MS = 5000  # how long one statement waits for another process's lock
CHECKED_BYTES = 64 * 1024 * 1024  # a full check of a larger file would hold the start up for more than about 0.2 s
MARK_AT = 68  # of the application id in a SQLite file (sqlite.org/fileformat2.html, 1.3)


def open_store(url: str, *, create: bool = True, spill: Path | None = None) -> Store:
    """Opens the store for writing, as its only writer; makes and migrates it where needed.

    A store of ours that is locked, or whose disk is full, is opened as soon as that has passed: see `Store.trouble`.
    Raises StoreError if it cannot be opened, is not ours, is damaged, is newer, or another process writes to it.
    """
    path = _path(url)
    if not path.exists() and not create:
        raise StoreError(f"{path}: there is no store yet; `exoflow serve` makes it")
    if not path.parent.is_dir():
        raise StoreError(f"{path}: its folder does not exist; make it: mkdir -p {path.parent}")
    if path.is_dir():
        raise StoreError(f"{path}: is a folder; name the file in it, e.g. `store: sqlite:///{path.name}/exoflow.db`")
    lock = Lock(path)
    first: Connection | None = None
    passing: StoreTrouble | None = None
    try:
        first = _writable(path, made=lock.made)
        with suppress(OSError):  # of a full disk; the next start may do it
            lock.note_made()
    except StoreTrouble as error:
        if error.kind not in PASSING or not _bears_our_mark(path):
            lock.release()
            raise
        passing = error
    except BaseException:
        lock.release()
        raise

    def reopen() -> Connection:
        lock.still_held()
        return _writable(path, made=True)

    writer = Writer(path, first, reopen, _spill(spill, path))
    if first is not None:
        passing = _taken_over(writer)
    left = left_open(writer.spill) if passing is not None and writer.spill is not None else None
    readers = _engine(path, "ro")
    return Store(writer, readers.connect, lock.release, trouble=passing, wants_spill=spill is not None, left=left)


def _writable(path: Path, *, made: bool) -> Connection:
    """A connection to a store that is ours, sound and up to date; `made`: there was one before. Raises StoreError."""
    if made and path.exists() and path.stat().st_size == 0:
        raise StoreError(
            f"{path}: is empty, and calls were kept in it before; it is left as it is. Restore a backup, or remove {path} to"
            " begin with an empty store"
        )
    revision = _recognise(path)
    connection = _opened(path, _engine(path, "rw" if path.exists() else "rwc"))
    if path.stat().st_mode & ~MODE & 0o777:
        log.warning("%s: other users may read it, and callers' numbers are in it: chmod %o %s", path, MODE, path)
    if revision != HEAD:
        try:
            _migrate(path, connection)
        except BaseException:
            connection.close()
            raise
    return connection


def _taken_over(writer: Writer) -> StoreTrouble | None:
    """What an earlier process spilled is in the tables before anything is read from them."""
    try:
        writer.commit([], True)
    except StoreTrouble as error:
        return error
    return None


def _spill(folder: Path | None, path: Path) -> Spill | None:
    """A spill that is not there must not keep a sound store from its calls: it is said, and shown by /readyz."""
    if folder is None:
        return None
    try:
        spill = Spill(folder, path)
    except StoreError as error:
        log.error("%s", error)
        return None
    if os.stat(folder).st_dev == os.stat(path.parent).st_dev:
        log.warning("spill: %s is on the store's own file system: a full disk fills both; name a folder on another", folder)
    return spill


def _bears_our_mark(path: Path) -> bool:
    """Is it a store of ours, by its first bytes? For when SQLite itself cannot read it just now."""
    try:
        with path.open("rb") as file:
            header = file.read(MARK_AT + 4)
    except OSError:
        return False
    return header.startswith(b"SQLite format 3\0") and header[MARK_AT:] == APPLICATION_ID.to_bytes(4)


class Reader:
    """A look at the store from another process: read-only, and without gevent's threads."""

    def __init__(self, path: Path, connection: Connection) -> None:
        self.path = path
        self._connection = connection

    def read(self, fn: Callable[[Connection], T]) -> T:
        """What `fn` reads, all of one moment. Raises StoreError if the file cannot be read."""
        try:
            self._connection.exec_driver_sql("BEGIN")
            return fn(self._connection)
        except DBAPIError as error:
            raise StoreError(f"{self.path}: cannot be read ({error.orig}); are file and folder this user's?") from error
        finally:
            self._connection.rollback()

    def close(self) -> None:
        self._connection.close()


def open_reader(url: str) -> Reader:
    """Opens the store read-only beside a running `exoflow serve`. Raises StoreError as `open_store` does."""
    path = _path(url)
    if not path.exists():
        raise StoreError(f"{path}: there is no store yet; `exoflow serve` makes it")
    revision = _recognise(path, check=False)
    if revision != HEAD:
        raise StoreError(f"{path}: made by an older exoflow; start `exoflow serve` once, it brings the store up to date")
    return Reader(path, _opened(path, _engine(path, "ro")))


def _path(url: str) -> Path:
    if url.startswith(SQLITE):
        # the rest is the file's name as it is written: it is no URL, and `%20` or `?` in it mean themselves
        database = url.removeprefix(SQLITE)
        if database in ("", ":memory:"):
            raise StoreError("store: SQLite in memory would lose every call; write for example sqlite:///exoflow.db")
        return Path(database).resolve()  # two names of one file share its lock
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise StoreError(f"store {url!r} is no database URL; write for example sqlite:///exoflow.db") from None
    if parsed.get_backend_name() != "sqlite":
        raise StoreError(
            f"store: {parsed.get_backend_name()} is not supported by this version; write for example sqlite:///exoflow.db"
        )
    raise StoreError("store: SQLite in memory would lose every call; write for example sqlite:///exoflow.db")


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    """`mode` is SQLite's: ro, rw, or rwc for a file that may be made."""
    uri = f"file:{quote(str(path))}?mode={mode}"
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False, timeout=BUSY_MS / 1000)
    if mode != "ro":
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")
        if mode == "rwc":
            path.chmod(MODE)  # SQLite gives its other files the same
    else:
        connection.execute("PRAGMA query_only=1")
    return connection


def _engine(path: Path, mode: str) -> Engine:
    return create_engine("sqlite://", creator=lambda: _connect(path, mode), poolclass=NullPool)


def _opened(path: Path, engine: Engine) -> Connection:
    try:
        return engine.connect()
    except Exception as error:  # SQLAlchemy wraps the driver's errors, but not those of a creator
        if isinstance(ailing := trouble(path, error), StoreTrouble) and ailing.kind in PASSING:
            raise ailing from error
        raise StoreError(f"{path}: cannot be opened ({error}); are file and folder this user's?") from error


def _recognise(path: Path, *, check: bool = True) -> str | None:
    """The revision of an existing store, None for a new file; raises StoreError for anything that is not ours and sound."""
    if not path.exists() or path.stat().st_size == 0:
        return None
    try:
        looking = _connect(path, "ro")
    except sqlite3.Error as error:
        raise _refused(path, error) from error
    try:
        (names,) = looking.execute("SELECT count(*) FROM sqlite_master").fetchone()
        (mark,) = looking.execute("PRAGMA application_id").fetchone()
        if names == 0 and mark in (0, APPLICATION_ID):
            return None
        if mark != APPLICATION_ID:
            raise StoreError(f"{path}: is a SQLite file of another program; name another file under `store:`")
        if check and path.stat().st_size <= CHECKED_BYTES:
            (verdict,) = looking.execute("PRAGMA quick_check(1)").fetchone()
            if verdict != "ok":
                raise sqlite3.DatabaseError(verdict)
        (revision,) = looking.execute("SELECT version_num FROM alembic_version").fetchone()
    except sqlite3.Error as error:
        raise _refused(path, error) from error
    finally:
        looking.close()
    if revision > HEAD:
        raise StoreError(
            f"{path}: made by a newer exoflow (revision {revision}, this one knows {HEAD}); install that version again"
        )
    return str(revision)


def _refused(path: Path, error: sqlite3.Error) -> StoreError:
    ailing = trouble(path, error)
    if ailing is not None and ailing.kind in PASSING:
        return ailing
    if isinstance(error, sqlite3.OperationalError):
        return StoreError(f"{path}: cannot be read ({error}); are file and folder this user's?")
    return StoreError(
        f"{path}: is damaged or no exoflow store ({error}); nothing was changed. Restore a backup, or save what is left"
        f" with `sqlite3 {path} .recover` and move the file away: exoflow then starts with an empty store"
    )


def _migrate(path: Path, connection: Connection) -> None:
    """Brings the tables to HEAD in one transaction. Alembic costs 0.36 s to import, so only if there is something to do.

    Raises StoreTrouble if what keeps it from that passes by itself, else StoreError.
    """
    try:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        from alembic import command
        from alembic.config import Config

        config = Config()
        folder = Path(__file__).with_name("migrations")
        config.set_main_option("script_location", str(folder).replace("%", "%%"))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        connection.commit()
    except Exception as error:
        if (ailing := trouble(path, error)) is not None and ailing.kind in PASSING:
            raise ailing from error
        raise StoreError(f"{path}: cannot be brought to revision {HEAD} ({error}); it is left as it was") from error
    finally:
        connection.rollback()
