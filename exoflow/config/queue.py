"""A queue, as an engineer writes it into a connect step: for callers of a group whose every agent is talking.

Times are in seconds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

from pydantic import Field, StrictInt, model_validator

from exoflow.config.actions import PhoneKey, blocks
from exoflow.config.callbacks import Offer
from exoflow.config.spoken import spoken_language, words
from exoflow.config.stepbase import Prompt, Strict

MAX_QUEUE = 100  # callers: each has a channel of the trunk, of which an E1 has 30
MAX_QUEUE_SECONDS = 3600  # an hour is more than anybody waits; 180 is what Exotel gives (facts, exotel-dialect.md section 4.5)
MAX_SAID_MINUTES = 60  # as long as one may wait; of more nobody is told


class Figure(Strict):
    """A number with the words around it."""

    before: Prompt | None = Field(None, description="played before the number, in one piece with it")
    after: Prompt | None = Field(None, description="played after it, in one piece with it")

    @model_validator(mode="after")
    def _has_words(self) -> Figure:
        if self.before is None and self.after is None:
            raise ValueError("needs `before` or `after`: nobody knows what a bare number means")
        return self


class Announce(Strict):
    """What a caller who waits is told of his place."""

    every: StrictInt = Field(
        30, ge=10, le=600, description="seconds from one announcement to the next; the first comes at once"
    )
    position: Figure | None = Field(None, description="his place in the queue: 1 is the next one")
    wait: Figure | None = Field(None, description="minutes he will wait about, as soon as enough callers were served to know")

    @model_validator(mode="after")
    def _says_something(self) -> Announce:
        if self.position is None and self.wait is None:
            raise ValueError("needs `position` or `wait`")
        return self


class Queue(Prompt):
    """Its own words (`say` or `play`) are heard first, once."""

    music: Prompt | None = Field(None, description="heard until an agent is free; a soft tone unless set")
    max_seconds: StrictInt = Field(180, ge=10, le=MAX_QUEUE_SECONDS, description="seconds after which `queue_timeout` follows")
    size: StrictInt = Field(20, ge=1, le=MAX_QUEUE, description="callers that wait at most; for more `queue_full` follows")
    leave_key: PhoneKey | None = Field(None, description="key that leaves the queue, at any time, for `left_queue`")
    announce: Announce | None = Field(None, description="tells each caller his place or how long he will wait")
    call_back: Offer | None = Field(
        None, description="offers to call him back, in his turn, by the account's `call_backs`; not offered unless set"
    )

    @model_validator(mode="after")
    def _one_meaning(self) -> Queue:
        if self.call_back is not None and self.call_back.key == self.leave_key:
            raise ValueError(f"has {self.leave_key} as `leave_key` and as `call_back.key`; it can be one of them")
        return self

    @property
    def needs_words(self) -> bool:
        return False

    def spoken(self, languages: Sequence[str]) -> list[Prompt]:
        """The numbers that may be announced, for callers of these languages; the first is the account's."""
        if self.announce is None:
            return []
        most = max(self._most())
        heard = dict.fromkeys(spoken_language(language, languages[0]) for language in languages)
        return [block for language in heard for block in _numbers(most, language)]

    def _most(self) -> Iterator[int]:
        assert self.announce is not None
        if self.announce.position is not None:
            yield self.size
        if self.announce.wait is not None:
            yield MAX_SAID_MINUTES


@lru_cache(maxsize=32)
def _numbers(most: int, language: str) -> list[Prompt]:
    return blocks(dict.fromkeys(word for number in range(1, most + 1) for word in words("number", number, language)), language)
