"""Contestant: the least a program by hand can do for the same commands in the same order, correct only on a good day.

One greenlet a call, no reader of its own, no deadlines, no check of what it sends; frames are found by their length, and of an
event only the token is looked for. It asks the switch for the same things as exoflow: it disarms the guard, without which
the dialplan takes the call away, and arms a lease.
"""

from __future__ import annotations

import itertools
import sys

from gevent import socket
from gevent.server import StreamServer

from bench.plain_call import CAUSE, LEASE, PROMPT, SETS

EVENTS = "CHANNEL_EXECUTE_COMPLETE CHANNEL_ANSWER CHANNEL_BRIDGE CHANNEL_UNBRIDGE CHANNEL_HANGUP CHANNEL_HANGUP_COMPLETE"
tokens = itertools.count(1)


def message(application: str, argument: str, token: str) -> str:
    head = f"sendmsg\ncall-command: execute\nexecute-app-name: {application}\nevent-lock: true\nevent-uuid: {token}\n"
    if argument:
        head += f"content-type: text/plain\ncontent-length: {len(argument)}\n"
    return f"{head}\n{argument}"


class Call:
    def __init__(self, sock) -> None:
        self.sock = sock
        self.buffer = b""

    def frame(self) -> tuple[bytes, bytes]:
        """The next frame's head and body. Raises EOFError."""
        while (end := self.buffer.find(b"\n\n")) < 0:
            self.fill()
        head = self.buffer[:end]
        length, at = 0, head.find(b"Content-Length: ")
        if at >= 0:
            stop = head.find(b"\n", at)
            length = int(head[at + 16 : stop if stop >= 0 else end])
        while len(self.buffer) < end + 2 + length:
            self.fill()
        body = self.buffer[end + 2 : end + 2 + length]
        self.buffer = self.buffer[end + 2 + length :]
        return head, body

    def fill(self) -> None:
        data = self.sock.recv(65536)
        if not data:
            raise EOFError
        self.buffer += data

    def execute(self, application: str, argument: str = "", before: str = "", after: str = "") -> None:
        token = f"t{next(tokens)}"
        self.sock.sendall(f"{before}{message(application, argument, token)}{after}".encode())
        wanted = f"\nApplication-UUID: {token}\n".encode()
        while True:
            _, body = self.frame()
            if wanted in body and b"Event-Name: CHANNEL_EXECUTE_COMPLETE\n" in body:
                return

    def run(self) -> None:
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.sendall(b"connect\n\n")
        head, _ = self.frame()
        at = head.index(b"\nUnique-ID: ") + 12
        uuid = head[at : head.index(b"\n", at)].decode()
        commands = f"linger 5\n\nfilter Unique-ID {uuid}\n\nevent plain {EVENTS}\n\n"
        lease = message("sched_transfer", LEASE, f"t{next(tokens)}")
        self.execute("sched_cancel", before=commands, after=lease)
        self.execute("answer")
        for assignment in SETS:
            self.execute("set", assignment)
        self.execute("playback", PROMPT)
        self.sock.sendall(
            b"sendmsg\ncall-command: execute\nexecute-app-name: hangup\nevent-lock: true\n"
            b"content-type: text/plain\ncontent-length: %d\n\n%b" % (len(CAUSE), CAUSE.encode())
        )
        while True:
            _, body = self.frame()
            if b"Event-Name: CHANNEL_HANGUP_COMPLETE\n" in body:
                return


def serve(sock, _address) -> None:
    try:
        Call(sock).run()
    except EOFError:
        pass
    finally:
        sock.close()


def main() -> None:
    server = StreamServer(("127.0.0.1", int(sys.argv[1])), serve, backlog=1024)
    server.start()
    print("ready", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
