"""Records the plain call's frames as FreeSWITCH sends them, for the bench's load side: `python -m bench.record`.

Run by hand when FreeSWITCH changes; it writes bench/frames/: one frame a file, in the order they came, with all that `myevents`
brings. An application's frames are those up to its CHANNEL_EXECUTE_COMPLETE.
"""

from __future__ import annotations

from gevent import monkey

monkey.patch_all()

import re  # noqa: E402
import tempfile  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

from gevent.event import AsyncResult  # noqa: E402
from gevent.server import StreamServer  # noqa: E402

from bench.apps.minimum import Call  # noqa: E402
from bench.freeswitch import Callers, freeswitch  # noqa: E402
from bench.plain_call import CAUSE, LEASE, PROMPT, SETS  # noqa: E402

FRAMES = Path(__file__).parent / "frames"
# the recording machine's own names and addresses have no place in a repository
ANONYMOUS = (
    (rb"(?m)^(FreeSWITCH-(?:Hostname|Switchname)): .*$", rb"\1: vm"),
    (rb"(?m)^FreeSWITCH-IPv4: .*$", b"FreeSWITCH-IPv4: 192.0.2.2"),
    (rb"(?m)^FreeSWITCH-IPv6: .*$", b"FreeSWITCH-IPv6: fd00%3A%3A2"),
)


class Recorded(Call):
    """A call that keeps its frames."""

    def __init__(self, sock: Any) -> None:
        super().__init__(sock)
        self.frames: list[tuple[bytes, bytes]] = []

    def frame(self) -> tuple[bytes, bytes]:
        frame = super().frame()
        self.frames.append(frame)
        return frame

    def play(self) -> list[tuple[bytes, bytes]]:
        """Makes the call; its events and notices, with the reply to `connect` first."""
        self.sock.sendall(b"connect\n\n")
        self.frame()
        self.execute("sched_cancel", before="linger 5\n\nmyevents\n\n")
        self.execute("sched_transfer", LEASE)
        self.execute("answer")
        for assignment in SETS:
            self.execute("set", assignment)
        self.execute("playback", PROMPT)
        try:
            self.execute("hangup", CAUSE)
            while True:
                self.frame()
        except EOFError:
            events = [frame for frame in self.frames[1:] if b"command/reply" not in frame[0]]
            # a busy switch dispatches the dialplan's own events late, so that they come here too
            parked = next(i for i, (_, body) in enumerate(events) if b"Event-Name: CHANNEL_PARK\n" in body)
            return [self.frames[0], *events[parked:]]


def title(head: bytes, body: bytes) -> str:
    """For the file's name: the event and its application."""
    if b"command/reply" in head:
        return "connect-reply"
    if b"disconnect-notice" in head:
        return "linger-notice" if b": linger" in head else "disconnect-notice"
    name = re.search(rb"(?m)^Event-Name: (.*)$", body)
    application = re.search(rb"(?m)^Application: (.*)$", body)
    words = (
        name.group(1).lower().replace(b"channel_", b"") if name else b"event",
        application.group(1) if application else b"",
    )
    return b"-".join(word for word in words if word).decode().replace("_", "-")


def anonymous(head: bytes, body: bytes) -> bytes:
    """The frame with its length put right."""
    for pattern, replacement in ANONYMOUS:
        head, body = re.sub(pattern, replacement, head), re.sub(pattern, replacement, body)
    return re.sub(rb"Content-Length: \d+", b"Content-Length: %d" % len(body), head) + b"\n\n" + body


def main() -> None:
    """One call, all of whose frames are kept."""
    recorded = AsyncResult()
    with tempfile.TemporaryDirectory() as folder, freeswitch(Path(folder)) as box:
        address = (box.exoflow_hosts.host, box.exoflow_hosts.port)
        server = StreamServer(address, lambda sock, _: recorded.set(Recorded(sock).play()))
        server.start()
        Callers(box).run(1, 1.0)
        frames = recorded.get(timeout=10)
        server.stop()
    FRAMES.mkdir(exist_ok=True)
    for old in FRAMES.glob("*.esl"):
        old.unlink()
    for number, (head, body) in enumerate(frames):
        (FRAMES / f"{number:02d}-{title(head, body)}.esl").write_bytes(anonymous(head, body))
    print(f"{len(frames)} frames in bench/frames")


if __name__ == "__main__":
    main()
