"""Opening a store: the file is found, locked, recognised, brought to the newest revision, and only then used.

A file that is a stranger's, damaged or made by a newer exoflow is refused with its path and the cure; it is never recreated.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

from sqlalchemy import create_engine
from sqlalchemy.engine import Connection, Engine, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.pool import NullPool

from exoflow.errors import StoreError
from exoflow.store.sqlite import Store
from exoflow.store.tables import APPLICATION_ID, HEAD

T = TypeVar("T")

BUSY_MS = 5000  # how long one statement waits for another process's lock
LOCK_SECONDS = 3.0  # a restart hands the store over within 2 s (design, section 7)
CHECKED_BYTES = 64 * 1024 * 1024  # a full check of a larger file would hold the start up for more than about 0.2 s


def open_store(url: str, *, create: bool = True) -> Store:
    """Opens the store for writing, as its only writer; makes and migrates it where needed.

    Raises StoreError if it cannot be opened, is not ours, is damaged, is newer, or another process writes to it.
    """
    path = _path(url)
    if not path.exists() and not create:
        raise StoreError(f"{path}: there is no store yet; `exoflow serve` makes it")
    if not path.parent.is_dir():
        raise StoreError(f"{path}: its folder does not exist; make it: mkdir -p {path.parent}")
    lock = _lock(path)
    try:
        _recognise(path)
        engine = _engine(path, writable=True)
        connection = _opened(path, engine)
        _migrate(path, connection)
    except BaseException:
        os.close(lock)
        raise
    readers = _engine(path, writable=False)
    return Store(path, connection, readers.connect, release=lambda: os.close(lock))


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
    return Reader(path, _opened(path, _engine(path, writable=False)))


def _path(url: str) -> Path:
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise StoreError(f"store {url!r} is no database URL; write for example sqlite:///exoflow.db") from None
    if parsed.get_backend_name() != "sqlite":
        raise StoreError(
            f"store: {parsed.get_backend_name()} is not supported by this version; write for example sqlite:///exoflow.db"
        )
    if not parsed.database or parsed.database == ":memory:":
        raise StoreError("store: SQLite in memory would lose every call; write for example sqlite:///exoflow.db")
    return Path(parsed.database).resolve()  # two names of one file share its lock


def _lock(path: Path) -> int:
    """One writer across processes: two WAL writers corrupt a file with SQLite before 3.51.3 (sqlite.org, WAL-reset bug)."""
    beside = path.with_name(path.name + ".lock")
    try:
        fd = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    except OSError as error:
        raise StoreError(f"{beside}: {error.strerror}; exoflow's user must be able to write to this folder") from error
    patience = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > patience:
                os.close(fd)
                raise StoreError(f"{path}: another exoflow process writes to it; stop that one first") from None
            time.sleep(0.05)
        else:
            return fd


def _connect(path: Path, *, writable: bool) -> sqlite3.Connection:
    uri = f"file:{quote(str(path))}" + ("" if writable else "?mode=ro")
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False, timeout=BUSY_MS / 1000)
    if writable:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")
    else:
        connection.execute("PRAGMA query_only=1")
    return connection


def _engine(path: Path, *, writable: bool) -> Engine:
    return create_engine("sqlite://", creator=lambda: _connect(path, writable=writable), poolclass=NullPool)


def _opened(path: Path, engine: Engine) -> Connection:
    try:
        return engine.connect()
    except Exception as error:  # SQLAlchemy wraps the driver's errors, but not those of a creator
        raise StoreError(f"{path}: cannot be opened ({error}); are file and folder this user's?") from error


def _recognise(path: Path, *, check: bool = True) -> str | None:
    """The revision of an existing store, None for a new file; raises StoreError for anything that is not ours and sound."""
    if not path.exists() or path.stat().st_size == 0:
        return None
    try:
        looking = _connect(path, writable=False)
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
    if isinstance(error, sqlite3.OperationalError):
        return StoreError(f"{path}: cannot be read ({error}); are file and folder this user's?")
    return StoreError(
        f"{path}: is damaged or no exoflow store ({error}); nothing was changed. Restore a backup, or save what is left"
        f" with `sqlite3 {path} .recover` and move the file away: exoflow then starts with an empty store"
    )


def _migrate(path: Path, connection: Connection) -> None:
    """Brings the tables to HEAD in one transaction. Alembic costs 0.36 s to import, so only if there is something to do."""
    connection.exec_driver_sql("BEGIN IMMEDIATE")
    try:
        known = connection.exec_driver_sql("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").fetchone()
        if known and connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar() == HEAD:
            return
        from alembic import command
        from alembic.config import Config

        config = Config()
        folder = Path(__file__).with_name("migrations")
        config.set_main_option("script_location", str(folder).replace("%", "%%"))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        connection.commit()
    except Exception as error:
        raise StoreError(f"{path}: cannot be brought to revision {HEAD} ({error}); it is left as it was") from error
    finally:
        connection.rollback()
