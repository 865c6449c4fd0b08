"""Contestant: exoflow's own layer for the wire, as the flow engine uses it."""

from __future__ import annotations

import sys

from gevent.event import Event

from bench.plain_call import CAUSE, PROMPT, SECONDS, SETS
from exoflow.esl.server import CallServer
from exoflow.esl.session import CallSession


def answer(session: CallSession) -> None:
    session.execute("answer", deadline=SECONDS)
    for assignment in SETS:
        session.execute("set", assignment, deadline=SECONDS)
    session.execute("playback", PROMPT, deadline=SECONDS)
    session.hang_up(CAUSE)


def main() -> None:
    server = CallServer(("127.0.0.1", int(sys.argv[1])), answer, max_calls=5000)
    server.start()
    print("ready", flush=True)
    Event().wait()


if __name__ == "__main__":
    main()
