"""A caller's session: runs the dialplan's and the app's applications on one channel, nested where FreeSWITCH nests.

Follows switch_ivr_parse_event (switch_ivr.c:503), switch_core_session_exec (switch_core_session.c:2834), the private
event queue (switch_core_session.c:1316) and switch_ivr_park (switch_ivr.c:946).
"""

from __future__ import annotations

import time
import uuid as uuids
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, NamedTuple

from exoflow.sim.apps import APPLICATIONS, Application
from exoflow.sim.causes import cause_name
from exoflow.sim.channel import Channel
from exoflow.sim.clock import Timer
from exoflow.sim.dialplan import Route
from exoflow.sim.expand import expand
from exoflow.sim.frames import Command, is_true
from exoflow.sim.listener import Listener

if TYPE_CHECKING:
    from exoflow.sim.apps.recording import TalkRecording
    from exoflow.sim.phone import Phone

# a listener that ends this soon after `connect` ends before the session has parked: the park then never ends
# (facts: 50 of 60 at once, 0 of 60 after 50 ms); wall seconds
EARLY_CLOSE_SECONDS = 0.02
FRAME_SECONDS = 0.02  # of audio: a parked call eats one key that waits with each (switch_ivr.c:1149)
KEY_DURATION = "2000"  # default_dtmf_duration, in samples
MAX_FORWARDS = 70  # each transfer takes one, and a call without any is hung up (switch_ivr.c:2172)
LOOP_SECONDS = 0.5  # `loops` ends after an application that took less (switch_ivr.c:652)
AFTER_HANGUP = ("set", "multiset", "unset")  # also run, if they are queued, when the channel is down (SAF_ZOMBIE_EXEC)
MAX_STACK = 16  # of execute_extension in execute_extension (SWITCH_MAX_STACKS)

# why a wait ended: its time was up, the channel is down, uuid_break, a transfer or reset, or what was waited for came
Ending = Literal["time", "hangup", "break", "away", "came"]


class Past(NamedTuple):
    """Where the call was before a transfer."""

    destination: str
    rdnis: str
    times: dict[str, int]
    route: Route | None


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
        self.away = False  # transferred, and not yet there
        self.digits: deque[tuple[str, bool]] = deque()  # keys that wait; is each to be kept out of log and CDR?
        self.listeners: list[Listener] = []
        self.starved = False  # does the thread wait for a CPU?
        self.served = False  # did anything of the app run since the last `socket`?
        self.timers: list[Timer] = []
        self.ran: list[tuple[str, str | None, int]] = []  # application, argument, microseconds: the CDR's log
        self.typed = ""  # all keys that anything took
        self.limited_by = ""  # key of the `limit` that counts this call
        self.route: Route | None = None
        self.past: list[Past] = []
        self.recordings: dict[str, TalkRecording] = {}

    # --- from elsewhere ---

    def push(self, command: Command) -> None:
        """Queues a sendmsg; it runs when the session looks: at once, inside a running application, or after a locked one."""
        self.queue.append(command)
        self.channel.wake.set()

    def hung_up(self) -> None:
        self.cancel_scheduled()
        self.mind_clock()
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
        self.digits.append((key, is_true(self.channel.variables.get("sensitive_dtmf"))))
        self.channel.wake.set()

    def take_key(self) -> str:
        """The oldest key that waits, with the event that tells of it (switch_channel_dequeue_dtmf)."""
        key, sensitive = self.digits.popleft()
        self.typed += "" if sensitive else key
        tail = [("DTMF-Digit", key), ("DTMF-Duration", KEY_DURATION), ("DTMF-Source", "INBAND_AUDIO")]
        self.switch.bus.fire("DTMF", self.channel, tail=tail)
        return key

    def transfer(self, destination: str, context: str = "") -> None:
        """The channel has its new destination at once, also in the events of what the transfer ends (switch_ivr.c:2120)."""
        channel = self.channel
        if channel.hung_up:
            return
        forwards = int(channel.variables.get("max_forwards", str(MAX_FORWARDS))) - 1
        if forwards <= 0:
            channel.hangup("EXCHANGE_ROUTING_ERROR")
            return
        channel.set("max_forwards", str(forwards))
        self.past.append(Past(channel.destination, channel.rdnis, dict(channel.times), self.route))
        channel.transferred(destination, context or channel.context)
        self.away = True
        channel.wake.set()

    def listener_ended(self, listener: Listener) -> None:
        """CF_CONTROLLED is cleared, unless the listener ended before the session parked: nobody clears it then."""
        if listener in self.listeners:
            self.listeners.remove(listener)
            self.mind_clock()
        connected = listener.connected_at
        # an execute that ran shows that the session had parked
        if connected is None or (time.monotonic() - connected < EARLY_CLOSE_SECONDS and not self.served):
            if not self.channel.hung_up:
                why = "without `connect`" if connected is None else "within 20 ms of `connect`"
                self.switch.complain("early_close", f"the app closed the socket {why}: the caller is parked in silence", self)
        else:
            if self.controlled and self.listeners and self.in_app and not self.channel.hung_up:
                text = "an old socket was closed while another app has the call: its `socket` ends, as if it had died"
                self.switch.complain("old_socket", text, self)
            self.controlled = False
            if (listener.resume or is_true(self.channel.variables.get("socket_resume"))) and not self.channel.hung_up:
                self.reset = True
        self.channel.wake.set()

    # --- timers (sched_*) ---

    def schedule(self, seconds: float, act: Callable[[], None], *, judges: bool = False) -> None:
        """After so many seconds, unless the call has gone or sched_cancel took it back. `judges`: the seconds are the app's."""
        clock = self.switch.clock
        self.timers.append((clock.judge_later if judges else clock.later)(seconds, act))
        self.channel.set("last_sched_id", str(self.switch.next_task()))

    def cancel_scheduled(self) -> int:
        """Deletes all scheduled tasks of this call; how many there were."""
        pending = [timer for timer in self.timers if timer.pending]
        for timer in pending:
            timer.cancel()
        self.timers.clear()
        return len(pending)

    def mind_clock(self) -> None:
        """While the call is parked for an app that has nothing running on it, the app owes a command and the clock waits."""
        owes = self.listeners and not self.channel.hung_up and self.running[-1:] == ["socket"] and not self.starved
        (self.switch.clock.hold if owes else self.switch.clock.release)(self)

    # --- the thread ---

    def ready(self) -> bool:
        """switch_channel_ready: neither down nor on its way to another extension."""
        return not self.channel.hung_up and not self.away and not self.reset

    @property
    def in_app(self) -> bool:
        """Is the app in charge: does `socket` run? Else the dialplan is."""
        return "socket" in self.running

    def run(self) -> None:
        """Routes and executes until the call is over, then reports it."""
        self.switch.bus.fire("CHANNEL_CREATE", self.channel)
        self._run()

    def run_answered(self, destination: str, context: str) -> None:
        """Of a leg that was dialled: an answered one is transferred to where `originate` wants it (switch_ivr_originate.c)."""
        self.transfer(destination, context)
        self.away = False
        self._run()

    def _run(self) -> None:
        channel = self.channel
        try:
            while not channel.hung_up:
                channel.state = "CS_ROUTING"
                self.route = self.switch.dialplan.hunt(self, channel.destination, channel.context)
                if self.route is None:
                    channel.hangup("NO_ROUTE_DESTINATION")
                    break
                channel.state = "CS_EXECUTE"
                self._follow(self.route)
                if not self._transferred():
                    channel.hangup("NORMAL_CLEARING")  # past the last action (switch_core_state_machine.c:381)
        finally:
            if not self.switch.killed:
                channel.hangup("NORMAL_TEMPORARY_FAILURE")  # only when the switch itself stops
                channel.report()
                self.phone.has_ended()

    def _follow(self, route: Route) -> None:
        for action in route.actions:
            route.at += 1
            if not self.ready() or not self.execute(action.application, action.data):
                break

    def execute_extension(self, destination: str, context: str) -> None:
        """The actions of another extension, inside the one that runs (switch_core_session_execute_exten)."""
        if self.running.count("execute_extension") > MAX_STACK:
            self.switch.log("too many stacked extensions")
            return
        inner = self.switch.dialplan.hunt(self, destination, context or self.channel.context)
        if inner is not None:
            if self.route is not None:
                self.route.children.append(inner)
            self._follow(inner)

    def _transferred(self) -> bool:
        """Takes the pending transfer, if there is one."""
        away, self.away = self.away, False
        if not away or self.channel.hung_up:
            return False
        self.digits.clear()  # a transfer drops the keys that wait to be read
        return True

    def execute(self, application: str, argument: str | None) -> bool:
        """Runs one application with its EXECUTE and EXECUTE_COMPLETE. False when it did not run: no COMPLETE then."""
        channel = self.channel
        if channel.hung_up and application not in AFTER_HANGUP:
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
        self.ran.append((application.name, expanded or None, self.switch.clock.micros()))
        self.switch.bus.fire("CHANNEL_EXECUTE", channel, tail=tail + ids)
        self.break_flag = False
        self.running.append(application.name)
        self.mind_clock()
        try:
            application.run(self, expanded or "")
        finally:
            self.running.pop()
            self.mind_clock()
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
        inside = self.running[len(self.running) - self.running[::-1].index("socket") :] if self.in_app else self.running
        if inside and not self.channel.hung_up:
            lock = "with" if locked else "without"
            self.switch.complain("nested", f"{application} ({lock} event-lock) runs inside {inside[-1]}", self)
        self._starve(self.switch.late_commands.get(application, 0.0))
        self.channel.set("app_uuid", command.get("event-uuid"))
        self.channel.set("app_uuid_name", command.get("event-uuid-name"))
        clock = self.switch.clock
        for _ in range(max(1, _loops(command))):
            started = clock.elapsed()
            if not self.execute(application, argument) or not self.ready() or clock.elapsed() - started < LOOP_SECONDS:
                break

    def _starve(self, seconds: float) -> None:
        """The thread gets no CPU: it notices nothing, not even that the app has gone; what it was told to do it does then."""
        if seconds:
            self.starved = True
            self.mind_clock()
            self.switch.pulse()
            self.switch.clock.sleep(seconds)
            self.starved = False
            self.mind_clock()

    # --- waiting inside an application ---

    def wait(
        self, seconds: float | None, came: Callable[[], bool] | None = None, *, judges: bool = False, inside: bool = True
    ) -> Ending:
        """Waits so many seconds of switch time (None: without end), runs what is queued meanwhile, and says why it ended.

        `came` is asked at each change. `judges`: the seconds are the app's. `inside=False` leaves queued commands alone, as
        code that does not look for them.
        """
        clock, wake = self.switch.clock, self.channel.wake
        until = None if seconds is None else clock.elapsed() + (clock.judging(seconds) if judges else seconds)
        while True:
            wake.clear()
            if self.channel.hung_up:
                return "hangup"
            if self.away or self.reset:
                return "away"
            if self.break_flag:
                self.break_flag = False
                return "break"
            if came is not None and came():
                return "came"
            if inside and self.queue and not self.event_lock:
                self.run_queued()
                continue
            if until is not None and until <= clock.elapsed():
                return "time"
            clock.wait(wake, until)

    def park(self) -> None:
        """Runs what the app sends until it lets go. Keys that wait are eaten: one with each frame of 20 ms, and one behind each
        time that something of the app has run, be it ever so short (switch_ivr.c:1147-1156)."""
        channel = self.channel
        if self.controlled:
            self.switch.log("Cannot park channels that are under control already.")
            return
        # a listener that ended before this line cleared nothing, and nobody will: that is the dead air of an early close
        self.controlled = True
        self.switch.bus.fire("CHANNEL_PARK", channel)
        eating = False  # has a key been eaten, and do others wait?
        while self.controlled and self.ready():
            waiting = bool(self.digits)
            # a key comes anywhere between two frames. Judged: the frames are the line's, the app is not faster than it is
            frame = FRAME_SECONDS if eating else FRAME_SECONDS / 2
            ending = self.wait(frame if waiting else None, self._parked_for(waiting), judges=True, inside=False)
            ran = ending == "came" and self._may_run
            if ran:
                self.run_queued()
            due = ending == "time" or (ran and self.switch.clock.eats_between)
            eating = due and self.controlled and bool(self.digits) and self.ready()
            if eating:
                self.take_key()
        self.controlled = False
        self.switch.bus.fire("CHANNEL_UNPARK", channel)

    def _parked_for(self, waiting: bool) -> Callable[[], bool]:
        """What a park looks at before its next frame; keys only if none waits already."""
        return lambda: not self.controlled or self._may_run or (not waiting and bool(self.digits))

    @property
    def _may_run(self) -> bool:
        return bool(self.queue) and not self.event_lock


def _loops(command: Command) -> int:
    text = command.get("loops") or "1"
    return int(text) if text.lstrip("-").isdigit() else 1
