"""Keys that the parked switch takes when the last look before a question is over and the question has not come yet: some
milliseconds."""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager
from typing import Any

import gevent

from exoflow.errors import ExoflowError
from exoflow.esl.codec import Headers
from exoflow.esl.session import Before
from exoflow.flow.here import KEYS, QUICK_SECONDS, Here

log = logging.getLogger("exoflow.flow")


class LateKeys(AbstractContextManager["LateKeys"]):
    """Those of one question, while it runs.

    A `set` runs right in front of it. What the switch told of before that `set` had ended was typed ahead, and is kept on
    the channel as soon as it is known, for another process may have to read the answer. Rarely it takes one more key between
    the two; when the question has ended, what was told in front of its own keys shows all of them.
    """

    def __init__(self, here: Here, question: str, *, secret: bool) -> None:
        """`question` is its number among the channel's variables; `secret`: the switch tells of none of its own keys."""
        self._here, self._question, self._variable = here, question, f"exo_late_{question}"
        self.kept = _keys(here.session.channel.variable(self._variable))  # by a process that has asked it before
        self._read = here.has_ended and not here.ended_last  # its answer has been, and others came behind it
        self._hearing: gevent.Greenlet | None = None
        self.in_front: Before | None = None
        if not here.has_ended:
            here.keys_kept = here.keys_typed
            self.in_front = Before("multiset", f"^^;exo_typed={here.keys_typed}" + ";sensitive_dtmf=true" * secret)
            self._hearing = gevent.spawn(self._hear, self.in_front)

    def __exit__(self, *_: Any) -> None:
        if self._hearing is not None:
            self._hearing.kill(block=False)

    def before(self, asked: str, ended: Headers) -> str:
        """Oldest first. `asked` are the question's own keys, its end key too; `ended` is its COMPLETE."""
        if self._hearing is None:
            return self.kept
        asked, heard = _keys(asked), str(self._hearing.get())
        told = heard + _keys(self._here.session.take_keys(ended.sequence))
        late = told[: len(told) - len(asked)] if told.endswith(asked) else heard
        return self.kept + late

    def ahead(self, keys: str) -> None:
        """What of them and of the question's own keys was more than its answer is the next one's."""
        if keys and not self._read:
            self._here.typed_ahead(_keys(keys), self._question)

    def _hear(self, in_front: Before) -> str:
        session = self._here.session
        in_front.ended.wait(QUICK_SECONDS)
        keys = _keys(session.take_keys(in_front.ended.get().sequence)) if in_front.ended.successful() else ""
        if keys:
            try:  # an `api` does not wait behind the question
                session.api(f"uuid_setvar {session.uuid} {self._variable} {self.kept}{keys}")
            except ExoflowError as error:
                log.info("a key that came late is known to this process alone: %s", error)
        return keys


def _keys(text: str) -> str:
    return "".join(key for key in text if key in KEYS)
