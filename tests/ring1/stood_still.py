"""An app in a process of its own, to be stopped and continued: takes each call, plays without end. Prints its port.

python stood_still.py STILL_SECONDS BEAT_SECONDS [PORT]
"""

from __future__ import annotations

import logging
import sys

import gevent

from exoflow.esl import heart
from exoflow.esl.server import CallServer
from exoflow.esl.session import CallSession

ENDLESS = "tone_stream://%(1000,0,425);loops=-1"


def answer(session: CallSession) -> None:
    session.execute("answer", deadline=5)
    session.execute("playback", ENDLESS, deadline=600)


def main() -> None:
    logging.basicConfig(level=logging.INFO)
    heart.STILL_SECONDS, heart.BEAT_SECONDS = float(sys.argv[1]), float(sys.argv[2])
    server = CallServer(("127.0.0.1", int(sys.argv[3]) if len(sys.argv) > 3 else 0), answer, max_calls=100)
    server.start()
    print(server.address[1], flush=True)
    gevent.get_hub().join()


if __name__ == "__main__":
    main()
