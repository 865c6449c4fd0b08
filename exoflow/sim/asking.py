"""An agent who has answered is asked before the call is his (collect_thread_run and check_channel_status,
switch_ivr_originate.c:170-265 and 780-860)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from exoflow.sim.sounds import NoSound, sounds_of

if TYPE_CHECKING:
    from exoflow.sim.channel import Channel
    from exoflow.sim.session import Session

EXEC = "exec"  # in place of a key: the file is an application, and the call is his when that has ended


class Asking:
    """`accepted` is told at the moment from which the talk is his."""

    def __init__(self, session: Session, channel: Channel, variables: Mapping[str, str], accepted: Callable[[], None]) -> None:
        self._session, self._channel, self._accepted = session, channel, accepted
        self._key = variables["group_confirm_key"]
        self._file = variables.get("group_confirm_file", "")
        limit = variables.get("group_confirm_timeout", "")
        self._limit = int(limit) if limit.isdigit() else 0
        self.heard: list[str] = []

    @classmethod
    def wanted(cls, variables: Mapping[str, str]) -> bool:
        return bool(variables.get("group_confirm_key"))

    def begin(self) -> None:
        clock = self._session.switch.clock
        if self._limit:
            clock.later(self._limit + 1, self._too_late)  # it is passed one second later (`>`)
        application, _, sound = self._file.rpartition(" ") if self._key == EXEC else ("", "", self._file)
        try:
            sounds = sounds_of(sound)
        except NoSound:
            self._session.switch.complain("missing_sound", f"nothing to play in {sound[:160]!r}", self._session)
            sounds = []
        self.heard = [one.text for one in sounds]
        if self._key == EXEC:
            if application != "playback":
                self._session.switch.complain("whisper", f"{application!r} is run on an agent's leg", self._session)
            clock.later(sum(one.seconds for one in sounds), self._take)

    def pressed(self, key: str) -> None:
        """What waits behind a wrong key is asked again."""
        if re.fullmatch(r"[0-9*#]", self._key) and key == self._key:
            self._take()

    def _take(self) -> None:
        if not self._channel.hung_up:
            self._accepted()

    def _too_late(self) -> None:
        if self._channel.bridged_to is None:
            self._channel.hangup("ALLOTTED_TIMEOUT")
