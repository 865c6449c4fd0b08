"""Keys that the parked switch takes when a gap's last look is over and the question has not come yet: some milliseconds."""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager
from typing import Any

import gevent

from exoflow.errors import ExoflowError
from exoflow.esl.session import Before
from exoflow.flow.here import KEYS, QUICK_SECONDS, Here

log = logging.getLogger("exoflow.flow")


class LateKeys(AbstractContextManager["LateKeys"]):
    """Those of one question, while it runs.

    A `set` runs right in front of it, and the switch takes no key between the two: what it told of before that `set` had ended
    belongs to the gap. It is kept on the channel as soon as it is known, for another process may have to read the answer.
    """

    def __init__(self, here: Here, question: str, *, behind_gap: bool) -> None:
        """`question` is its number among the channel's variables; `behind_gap`: is it the first one that is asked there?"""
        self._here, self._question, self._variable = here, question, f"exo_late_{question}"
        self._kept = here.session.channel.variable(self._variable)  # by a process that has asked it before
        self._read = here.has_ended and not here.ended_last  # its answer has been, and others came behind it
        self._hearing: gevent.Greenlet | None = None
        self.before: Before | None = None
        if behind_gap:
            self.before = Before("set", f"exo_typed={here.keys_typed}")
            self._hearing = gevent.spawn(self._hear, self.before)

    def __exit__(self, *_: Any) -> None:
        if self._hearing is not None:
            self._hearing.kill(block=False)

    @property
    def keys(self) -> str:
        """Oldest first; to be asked behind the question."""
        heard = self._hearing.get() if self._hearing is not None else ""
        return "".join(key for key in self._kept + heard if key in KEYS)

    def ahead(self, keys: str) -> None:
        """What of them and of the question's own keys was more than its answer is the next one's."""
        if keys and not self._read:
            self._here.typed_ahead(keys, self._question)

    def _hear(self, before: Before) -> str:
        session = self._here.session
        before.ended.wait(QUICK_SECONDS)
        keys = session.take_keys(before.ended.get().sequence) if before.ended.successful() else ""
        if keys:
            try:  # an `api` does not wait behind the question
                session.api(f"uuid_setvar {session.uuid} {self._variable} {self._kept}{keys}")
            except ExoflowError as error:
                log.info("a key that came late is known to this process alone: %s", error)
        return keys
