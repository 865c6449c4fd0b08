"""Contestant: greenswitch 0.0.19 as it comes, used as its README does (without its prints, sleeps and debug log)."""

from __future__ import annotations

import sys

import gevent
from greenswitch import OutboundESLServer

from bench.plain_call import CAUSE, PROMPT, SETS


class Application:
    """One call."""

    def __init__(self, session) -> None:
        self.session = session

    def run(self) -> None:
        try:
            self.handle_call()
        except Exception:
            self.session.stop()

    def handle_call(self) -> None:
        self.session.myevents()
        self.session.answer()
        for assignment in SETS:
            self.session.call_command("set", assignment)
        self.session.playback(PROMPT)
        self.session.hangup(CAUSE)
        self.session.stop()


def main() -> None:
    server = OutboundESLServer("127.0.0.1", int(sys.argv[1]), application=Application, max_connections=5000)
    listening = gevent.spawn(server.listen)
    while server.server is None or not server.bound_port:
        gevent.sleep(0.01)
    print("ready", flush=True)
    listening.join()


if __name__ == "__main__":
    main()
