"""The load side of the plain call: speaks to the app as FreeSWITCH's `socket` application does, with recorded frames.

A process of its own and as lean as can be (one epoll loop, frames made ready before), so that the app's CPU is what shows. It
answers commands at once and runs applications at the next 20 ms tick of the channel, as a parked session does
(docs/freeswitch-quirks.md); an event is sent only if the app has asked for it. `python -m bench.load --help`.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import json
import re
import select
import socket
import sys
import time
import uuid
from collections import deque
from pathlib import Path

TICK = 0.02  # seconds; a parked session looks for commands once a frame
PROMPT_SECONDS = 0.1  # 0: the prompt never ends
RAMP_PER_SECOND = 400  # how fast the first calls come: greenswitch looks for new ones ten times a second and its backlog is 100
QUIET_SECONDS = 30.0  # without any event: the app has lost its calls
FRAMES = Path(__file__).parent / "frames"
OWN_TOKEN = b"0f2f4a8e-6f0c-4d52-8a1e-5c4d1b7b9a10"  # FreeSWITCH makes one when the app gives none
REPLIES = {
    b"linger": b"+OK will linger 5 seconds",
    b"filter": b"+OK filter added. [Unique-ID]",
    b"event": b"+OK event listener enabled plain",
    b"myevents": b"+OK Events Enabled",
    b"exit": b"+OK bye",
}


class Template:
    """A recorded frame, to be made for any call and token."""

    def __init__(self, path: Path) -> None:
        head, _, self.body = path.read_bytes().partition(b"\n\n")
        self.head, self.name = head, b""
        if event := re.search(rb"(?m)^Event-Name: (.*)$", self.body):
            self.name = event.group(1)
        self.before, self.after = self.body, None
        if token := re.search(rb"(?m)^Application-UUID: (.*)$", self.body):
            self.before, self.after = self.body[: token.start(1)], self.body[token.end(1) :]

    def frame(self, channel: bytes, token: bytes) -> bytes:
        body = self.before if self.after is None else self.before + token + self.after
        head = self.head
        if self.name:
            head = b"Content-Length: %d\nContent-Type: text/event-plain" % len(body)
        return (head + b"\n\n" + body).replace(RECORDED_CHANNEL, channel)


TEMPLATES = [Template(path) for path in sorted(FRAMES.glob("*.esl"))]
CONNECT_REPLY = TEMPLATES[0]
RECORDED_CHANNEL = re.search(rb"(?m)^Unique-ID: (.*)$", CONNECT_REPLY.head).group(1)  # type: ignore[union-attr]
PARK = TEMPLATES[1]
LINGER, GOODBYE = TEMPLATES[-2], TEMPLATES[-1]


def groups() -> dict[bytes, list[list[Template]]]:
    """By application: what FreeSWITCH sent for it, once for each time it ran; the last one's go on to the end of the call."""
    found: dict[bytes, list[list[Template]]] = {}
    group: list[Template] = []
    for template in TEMPLATES[2:-2]:
        group.append(template)
        application = re.search(rb"(?m)^Application: (.*)$", template.body)
        if template.name == b"CHANNEL_EXECUTE_COMPLETE" and application and application.group(1) != b"hangup":
            if b"hangup" not in found:
                found.setdefault(application.group(1), []).append(group)
                group = []
        elif template.name == b"CHANNEL_EXECUTE" and application and application.group(1) == b"hangup":
            found[b"hangup"] = [group]
    return found


GROUPS = groups()


class Call:
    """One channel, seen from the switch."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self.channel = str(uuid.uuid4()).encode()
        self.begun = time.monotonic()
        self.sock = socket.create_connection(("127.0.0.1", load.port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.setblocking(False)
        self.buffer = b""
        self.heard = self.lingers = self.over = self.ticking = False
        self.names: frozenset[bytes] | None = frozenset()  # events wanted; None: all
        self.queue: deque[tuple[bytes, bytes]] = deque()
        self.runs = dict.fromkeys(GROUPS, 0)

    def readable(self) -> None:
        try:
            data = self.sock.recv(65536)
        except ConnectionError:
            data = b""
        if not data:
            self.end()
            return
        if not self.heard:
            self.heard = True
            self.load.latencies.append(time.monotonic() - self.begun)
        self.buffer += data
        self.answer()

    def answer(self) -> None:
        """Replies to all commands that are complete."""
        replies = []
        while (end := self.buffer.find(b"\n\n")) >= 0:
            head = self.buffer[:end]
            length = re.search(rb"(?mi)^content-length: (\d+)$", head)
            size = int(length.group(1)) if length else 0
            if len(self.buffer) < end + 2 + size:
                break
            self.buffer = self.buffer[end + 2 + size :]
            replies.append(self.command(head))
        if replies:
            self.send(b"".join(replies))
        if self.queue and not self.ticking and not self.over:
            self.ticking = True
            self.load.later(self.load.tick, self.tick)

    def command(self, head: bytes) -> bytes:
        word = head.split(None, 1)[0]
        if word == b"connect":
            return CONNECT_REPLY.head.replace(RECORDED_CHANNEL, self.channel) + b"\n\n"
        reply = b"Content-Type: command/reply\nReply-Text: %b\n\n" % REPLIES.get(word, b"+OK")
        if word == b"sendmsg":
            application = re.search(rb"(?m)^execute-app-name: (.*)$", head).group(1)  # type: ignore[union-attr]
            token = re.search(rb"(?m)^event-uuid: (.*)$", head)
            self.queue.append((application, token.group(1) if token else OWN_TOKEN))
        elif word == b"event":
            self.names = frozenset(head.split()[2:])
        elif word == b"myevents":
            self.names = None
            reply += PARK.frame(self.channel, b"")
        elif word == b"linger":
            self.lingers = True
        elif word == b"exit":
            self.over = True
            reply += GOODBYE.frame(self.channel, b"")
        return reply

    def tick(self) -> None:
        """The session looks: runs what is queued; a prompt takes its time."""
        self.ticking = False
        out = []
        while self.queue and not self.over:
            application, token = self.queue.popleft()
            times = GROUPS.get(application)
            if times is None:
                raise LookupError(f"no recorded frames of `{application.decode()}`: run `python -m bench.record`")
            templates = times[min(self.runs[application], len(times) - 1)]
            self.runs[application] += 1
            events = [t.frame(self.channel, token) for t in templates if self.names is None or t.name in self.names]
            if application == b"playback":
                self.load.hold(self, events[-1])
                out += events[:-1]
                break
            out += events
            if application == b"hangup":
                if self.lingers:
                    out.append(LINGER.frame(self.channel, b""))
                out.append(GOODBYE.frame(self.channel, b""))
                self.over = True
        if out:
            self.send(b"".join(out))

    def played(self, complete: bytes) -> None:
        self.ticking = False
        if not self.over:
            self.send(complete)
            self.tick()

    def send(self, data: bytes) -> None:
        try:
            sent = self.sock.send(data)
        except ConnectionError:
            self.end()
            return
        if sent != len(data):
            raise BufferError(f"the app does not read: {sent} of {len(data)} bytes taken")
        if self.over:
            self.end()

    def end(self) -> None:
        if self.sock.fileno() >= 0:
            self.over = True
            self.load.ended(self)


class Load:
    """The loop over all calls."""

    def __init__(self, port: int, *, pauses: bool = True) -> None:
        self.port = port
        self.tick = TICK if pauses else 0.0
        self.latencies: list[float] = []
        self.done = 0
        self.prompt_seconds = PROMPT_SECONDS if pauses else 0.0001
        self.on_end = lambda: None
        self._calls: dict[int, Call] = {}
        self._timers: list[tuple[float, int, object]] = []
        self._numbers = itertools.count()
        self._epoll = select.epoll()
        self.held = 0

    def later(self, seconds: float, function) -> None:
        heapq.heappush(self._timers, (time.monotonic() + seconds, next(self._numbers), function))

    def hold(self, call: Call, complete: bytes) -> None:
        """The prompt plays: its end comes later."""
        call.ticking = True
        self.held += 1
        if self.prompt_seconds:
            self.later(self.prompt_seconds, lambda: call.played(complete))

    def new_call(self) -> None:
        call = Call(self)
        self._calls[call.sock.fileno()] = call
        self._epoll.register(call.sock, select.EPOLLIN)

    def ended(self, call: Call) -> None:
        del self._calls[call.sock.fileno()]
        self._epoll.unregister(call.sock)
        call.sock.close()
        self.done += 1
        self.on_end()

    def run_until(self, true) -> None:
        moved = time.monotonic()
        while not true():
            now = time.monotonic()
            while self._timers and self._timers[0][0] <= now:
                heapq.heappop(self._timers)[2]()
                moved = now
            if true():
                return
            wait = max(0.0, self._timers[0][0] - time.monotonic()) if self._timers else 1.0
            for descriptor, _ in self._epoll.poll(wait):
                if (call := self._calls.get(descriptor)) is not None:
                    call.readable()
                moved = now
            if now - moved > QUIET_SECONDS:
                raise TimeoutError(f"{len(self._calls)} calls stand still")


def closed(load: Load, count: int, at_once: int) -> None:
    """So many calls, so many of them at a time: each that ends makes room for the next."""
    made = 0

    def another() -> None:
        nonlocal made
        if made < count:
            made += 1
            load.new_call()

    load.on_end = another
    for number in range(min(at_once, count)):
        load.later(number / RAMP_PER_SECOND, another)
    load.run_until(lambda: load.done == count)


def steady(load: Load, count: int, rate: float) -> None:
    """Calls at a steady rate, however long they take."""
    for number in range(count):
        load.later(number / rate, load.new_call)
    load.run_until(lambda: load.done == count)


def hold(load: Load, count: int) -> None:
    """So many calls in an endless prompt; says `held`, waits for a line on stdin, and drops them."""
    load.prompt_seconds = 0.0
    for number in range(count):
        load.later(number / RAMP_PER_SECOND, load.new_call)
    load.run_until(lambda: load.held == count)
    print("held", flush=True)
    sys.stdin.readline()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("way", choices=("closed", "steady", "hold"))
    parser.add_argument("port", type=int)
    parser.add_argument("count", type=int)
    parser.add_argument("--at-once", type=int, default=100)
    parser.add_argument("--rate", type=float, default=100.0)
    parser.add_argument("--no-pauses", action="store_true", help="a switch that takes no time: as fast as the app can")
    asked = parser.parse_args()
    load, begun = Load(asked.port, pauses=not asked.no_pauses), time.monotonic()
    if asked.way == "closed":
        closed(load, asked.count, asked.at_once)
    elif asked.way == "steady":
        steady(load, asked.count, asked.rate)
    else:
        hold(load, asked.count)
    seconds = time.monotonic() - begun
    print(json.dumps({"calls": load.done, "seconds": seconds, "latencies": load.latencies, "cpu": time.process_time()}))


if __name__ == "__main__":
    main()
