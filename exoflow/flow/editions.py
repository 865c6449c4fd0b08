"""Which configuration counts: the newest for new calls, and for each call that comes back the one it began with."""

from __future__ import annotations

import logging
from collections.abc import Callable
from weakref import WeakValueDictionary

import gevent

from exoflow.calls.model import CallState
from exoflow.clock import utcnow
from exoflow.config.load import Loaded, load_kept
from exoflow.config.model import Config
from exoflow.errors import ExoflowError
from exoflow.flow.here import Parts
from exoflow.store import configs
from exoflow.store.sqlite import Store

log = logging.getLogger("exoflow.flow")

LOAD_SECONDS = 3.0  # a caller waits for an old configuration no longer; 2,000 steps take half a second
MAX_UNKNOWN = 1000  # hashes that are not looked for again; one that is forgotten costs a look into the store


class Editions:
    """Configurations by their hashes. Old ones stay in memory as long as a call goes by them, and no longer."""

    def __init__(self, config: Config, store: Store, make: Callable[[Config], Parts]) -> None:
        """`make` puts together what calls need on a configuration."""
        self._store, self._make = store, make
        self._base = config.base
        self._alive: WeakValueDictionary[str, Config] = WeakValueDictionary()
        self._loading: dict[str, gevent.Greenlet] = {}
        self._unknown: set[str] = set()
        self.take(config)

    def take(self, config: Config) -> None:
        """This is the newest from now on; calls in progress end on theirs. It is kept in the store, which is not waited for."""
        parts = self._make(config)
        self._alive[config.kept.hash] = config
        self.current = parts
        self._unknown.clear()
        if not config.kept.files:
            return  # made by hand, not read: there is nothing to bring it back from
        name, files, now = config.kept.hash, config.kept.files, utcnow()
        self._store.post(lambda connection: configs.keep(connection, name, files, now))

    def of(self, name: str | None) -> Parts:
        """What a call goes by whose configuration has this hash; the newest for a new call (None), and if that one is no
        longer known or no longer good."""
        if not name or name == self.current.config.kept.hash:
            return self.current
        config = self._alive.get(name) or self._brought_back(name)
        return self.current if config is None else self._make(config)

    def _brought_back(self, name: str) -> Config | None:
        """Read once for all calls that want it; LOAD_SECONDS at most."""
        if name in self._unknown:
            return None
        loading = self._loading.get(name)
        if loading is None:
            loading = self._loading[name] = gevent.spawn(self._load, name)
        loading.join(LOAD_SECONDS)
        config: Config | None = loading.value
        return config

    def _load(self, name: str) -> Config | None:
        try:
            config = self._read(name)
        except ExoflowError as error:
            log.warning("configuration %s cannot be read from the store: %s", name[:12], error)
            config = None
        finally:
            del self._loading[name]
        if config is None:
            if len(self._unknown) < MAX_UNKNOWN:
                self._unknown.add(name)
        else:
            self._alive[name] = config
        return config

    def _read(self, name: str) -> Config | None:
        files = self._store.read(lambda connection: configs.files_of(connection, name))
        if files is None:
            log.warning("configuration %s is no longer kept: calls that began with it go on with the present one", name[:12])
            return None
        found: Loaded = gevent.get_hub().threadpool.apply(load_kept, (files, self._base))
        for finding in found.errors:
            log.warning("configuration %s is no longer good: %s", name[:12], finding)
        return found.config


def differs(state: CallState, parts: Parts) -> bool:
    """Does a call go on with another configuration than it began with?"""
    return bool(state.config) and state.config != parts.config.kept.hash
