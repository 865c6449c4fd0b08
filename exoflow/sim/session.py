"""A caller's session: runs the dialplan's and the app's applications on one channel, nested where FreeSWITCH nests.

Follows switch_ivr_parse_event (switch_ivr.c:503), switch_core_session_exec (switch_core_session.c:2834), the private
event queue (switch_core_session.c:1316) and switch_ivr_park (switch_ivr.c:946).
"""

from __future__ import annotations

import time
import uuid as uuids
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Literal

import gevent

from exoflow.sim.apps import APPLICATIONS, Application
from exoflow.sim.causes import cause_name
from exoflow.sim.channel import Channel
from exoflow.sim.expand import expand
from exoflow.sim.frames import Command, is_true
from exoflow.sim.listener import Listener

if TYPE_CHECKING:
    from exoflow.sim.apps.recording import TalkRecording
    from exoflow.sim.phone import Phone

# a listener that ends this soon after `connect` ends before the session has parked: the park then never ends
# (facts: 50 of 60 at once, 0 of 60 after 50 ms); wall seconds
EARLY_CLOSE_SECONDS = 0.02

# why a wait ended: its time was up, the channel is down, uuid_break, a transfer or reset, or what was waited for came
Ending = Literal["time", "hangup", "break", "away", "came"]


class Session:
    """The thread of an A leg. All methods but `push`, `hung_up`, `break_application` and the timers run in its own greenlet."""

    def __init__(self, channel: Channel, phone: Phone) -> None:
        self.channel, self.phone, self.switch = channel, phone, channel.switch
        channel.session = self
        self.queue: deque[Command] = deque()  # the private event queue
        self.event_lock = False
        self.running: list[str] = []  # applications, outermost first
        self.controlled = False
        self.reset = False  # CS_RESET of socket_resume
        self.break_flag = False
        self.transfer_to: str | None = None
        self.digits: deque[str] = deque()
        self.listeners: list[Listener] = []
        self.deaths: list[float] = []  # wall times at which the app let go of this call
        self.reached_app = False  # did the last `socket` connect?
        self.served = False  # did anything of the app run since?
        self.timers: list[gevent.Greenlet] = []
        self.recordings: dict[str, TalkRecording] = {}

    # --- from elsewhere ---

    def push(self, command: Command) -> None:
        """Queues a sendmsg; it runs when the session looks: at once, inside a running application, or after a locked one."""
        self.queue.append(command)
        self.channel.wake.set()

    def hung_up(self) -> None:
        self.cancel_scheduled()
        for listener in list(self.listeners):
            listener.channel_down()

    def break_application(self, *, drop_queue: bool = False) -> None:
        """uuid_break: ends the running application; `all` drops what is queued, without any COMPLETE for it."""
        if drop_queue:
            self.queue.clear()
        if self.running:
            self.break_flag = True
            self.channel.wake.set()

    def press(self, key: str) -> None:
        self.digits.append(key)
        self.channel.wake.set()

    def transfer(self, destination: str) -> None:
        self.transfer_to = destination
        self.channel.wake.set()

    def listener_ended(self, listener: Listener) -> None:
        """CF_CONTROLLED is cleared, unless the listener ended before the session parked: nobody clears it then."""
        if listener in self.listeners:
            self.listeners.remove(listener)
        connected = listener.connected_at
        # an execute that ran shows that the session had parked
        if connected is None or (time.monotonic() - connected < EARLY_CLOSE_SECONDS and not self.served):
            if not self.channel.hung_up:
                why = "without `connect`" if connected is None else "within 20 ms of `connect`"
                self.switch.complain("early_close", f"the app closed the socket {why}: the caller is parked in silence", self)
        elif not self.listeners:
            self.controlled = False
            if (listener.resume or is_true(self.channel.variables.get("socket_resume"))) and not self.channel.hung_up:
                self.reset = True
        self.channel.wake.set()

    def died_too_often(self, most: int, seconds: float) -> bool:
        """Has this call come back from its app so many times within so many wall seconds?"""
        if len(self.deaths) < most:
            return False
        return self.deaths[-1] - self.deaths[-most] <= seconds

    # --- timers (sched_*) ---

    def schedule(self, wall_seconds: float, act: Callable[[], None]) -> None:
        self.timers.append(gevent.spawn_later(wall_seconds, act))
        self.channel.set("last_sched_id", str(self.switch.next_task()))

    def cancel_scheduled(self) -> int:
        """Deletes all scheduled tasks of this call; how many there were."""
        pending = [timer for timer in self.timers if not timer.ready()]
        for timer in pending:
            if timer is not gevent.getcurrent():
                timer.kill(block=False)
        self.timers.clear()
        return len(pending)

    # --- the thread ---

    def ready(self) -> bool:
        """switch_channel_ready: neither down nor on its way to another extension."""
        return not self.channel.hung_up and self.transfer_to is None and not self.reset

    def run(self, extension: Callable[[Session, str], Iterator[tuple[str, str]]], destination: str) -> None:
        """Routes and executes until the call is over, then reports it."""
        channel = self.channel
        try:
            self.switch.bus.fire("CHANNEL_CREATE", channel)
            while not channel.hung_up:
                channel.state = "CS_EXECUTE"
                for application, argument in extension(self, destination):
                    if not self.ready():
                        break
                    self.execute(application, argument)
                destination = self._transferred()
                if not destination:
                    channel.hangup("NORMAL_CLEARING")  # past the last action (switch_core_state_machine.c:381)
        finally:
            channel.hangup("NORMAL_TEMPORARY_FAILURE")  # only when the switch itself stops
            channel.report()
            self.phone.has_ended()

    def _transferred(self) -> str:
        """Takes the destination of a pending transfer; empty if there is none."""
        destination, self.transfer_to = self.transfer_to, None
        if destination is None or self.channel.hung_up:
            return ""
        self.channel.transferred(destination)
        self.digits.clear()  # a transfer drops the keys that wait to be read
        return destination

    def execute(self, application: str, argument: str | None) -> bool:
        """Runs one application with its EXECUTE and EXECUTE_COMPLETE. False when it did not run: no COMPLETE then."""
        channel = self.channel
        if channel.hung_up:
            return False  # switch_core_session.c:2733-2759
        function = APPLICATIONS.get(application)
        if function is None:
            self.switch.complain("invalid_application", f"there is no application {application!r}: the call is hung up", self)
            channel.hangup("DESTINATION_OUT_OF_ORDER")
            return False
        if function.needs_media and not channel.media:
            channel.early_media()
        self._execute(function, argument)
        return True

    def _execute(self, application: Application, argument: str | None) -> None:
        channel = self.channel
        token = channel.variables.pop("app_uuid", None) or str(uuids.uuid4())
        token_name = channel.variables.pop("app_uuid_name", None)
        expanded = argument
        if argument and not is_true(channel.variables.get("app_disable_expand_variables")):
            expanded = expand(self, argument)
        channel.set("current_application_data", expanded)
        channel.set("current_application", application.name)
        channel.set("current_application_response", None)
        tail = [("Application", application.name)]
        if expanded:
            tail.append(("Application-Data", expanded))
        ids = [("Application-UUID", token)] + ([("Application-UUID-Name", token_name)] if token_name else [])
        self.switch.bus.fire("CHANNEL_EXECUTE", channel, tail=tail + ids)
        self.break_flag = False
        self.running.append(application.name)
        try:
            application.run(self, expanded or "")
        finally:
            self.running.pop()
        response = ("Application-Response", channel.variables.get("current_application_response", "_none_"))
        self.switch.bus.fire("CHANNEL_EXECUTE_COMPLETE", channel, tail=[*tail, response, *ids])

    def run_queued(self) -> None:
        """switch_ivr_parse_all_events: everything queued, unless a locked application runs."""
        while self.queue and not self.event_lock:
            self._run_message(self.queue.popleft())

    def _run_message(self, command: Command) -> None:
        """switch_ivr_parse_event."""
        self.served = True
        what = command.get("call-command")
        if not what:
            self.switch.log("Invalid Command!")
            return
        locked = command.flag("event-lock")
        self.event_lock = self.event_lock or locked
        try:
            if what == "execute":
                self._run_execute(command, locked=locked)
            elif what == "hangup":
                self.channel.hangup(cause_name(command.get("hangup-cause")))
        finally:
            if locked:
                self.event_lock = False

    def _run_execute(self, command: Command, *, locked: bool) -> None:
        application = command.get("execute-app-name")
        if not application:
            return
        argument = command.get("execute-app-arg")
        if not argument and (command.get("content-type") or "").lower() == "text/plain":
            argument = command.body
        if argument and "${" in argument:
            self.switch.complain("expansion", f"{application} got {argument[:120]!r}, which FreeSWITCH expands", self)
        inside = [name for name in self.running if name != "socket"]
        if inside and not self.channel.hung_up:
            lock = "with" if locked else "without"
            self.switch.complain("nested", f"{application} ({lock} event-lock) runs inside {inside[-1]}", self)
        self.channel.set("app_uuid", command.get("event-uuid"))
        self.channel.set("app_uuid_name", command.get("event-uuid-name"))
        started = time.monotonic()
        for _ in range(max(1, _loops(command))):
            if (
                not self.execute(application, argument)
                or not self.ready()
                or time.monotonic() - started < self.switch.clock.wall(0.5)
            ):
                break
            started = time.monotonic()

    # --- waiting inside an application ---

    def wait(
        self, seconds: float | None, came: Callable[[], bool] | None = None, *, wall: bool = False, inside: bool = True
    ) -> Ending:
        """Waits so many seconds of switch time (None: without end), runs what is queued meanwhile, and says why it ended.

        `came` is asked at each change. `inside=False` leaves queued commands alone, as code that does not look for them.
        """
        length = None if seconds is None else seconds if wall else self.switch.clock.wall(seconds)
        deadline = None if length is None else time.monotonic() + length
        wake = self.channel.wake
        while True:
            wake.clear()
            if self.channel.hung_up:
                return "hangup"
            if self.transfer_to is not None or self.reset:
                return "away"
            if self.break_flag:
                self.break_flag = False
                return "break"
            if came is not None and came():
                return "came"
            if inside and self.queue and not self.event_lock:
                self.run_queued()
                continue
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                return "time"
            wake.wait(left)

    def park(self) -> None:
        """Runs what the app sends until it lets go. Keys pressed meanwhile are eaten (switch_ivr.c:1151-1159)."""
        channel = self.channel
        if self.controlled:
            self.switch.log("Cannot park channels that are under control already.")
            return
        # a listener that ended before this line cleared nothing, and nobody will: that is the dead air of an early close
        self.controlled = True
        self.switch.bus.fire("CHANNEL_PARK", channel)
        while self.controlled and self.ready():
            self.wait(None, lambda: not self.controlled)
        self.switch.bus.fire("CHANNEL_UNPARK", channel)


def _loops(command: Command) -> int:
    text = command.get("loops") or "1"
    return int(text) if text.lstrip("-").isdigit() else 1
