"""The server in a process of its own, with few descriptors. Tells its port, then its counters for each line of input.

python small_server.py MAX_CALLS DESCRIPTORS CONNECT_SECONDS
"""

from __future__ import annotations

import json
import logging
import resource
import sys

from gevent import os as gevent_os

from exoflow.esl import session as session_module
from exoflow.esl.server import CallServer
from exoflow.esl.session import CallSession


def answer(session: CallSession) -> None:
    session.execute("answer", deadline=30)
    session.hang_up("NORMAL_CLEARING")


def main() -> None:
    logging.basicConfig(level=logging.ERROR)
    max_calls, descriptors = int(sys.argv[1]), int(sys.argv[2])
    session_module.CONNECT_SECONDS = float(sys.argv[3])
    resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))
    server = CallServer(("127.0.0.1", 0), answer, max_calls=max_calls)
    server.start()
    print(server.address[1], flush=True)
    while gevent_os.tp_read(0, 1):
        usage = resource.getrusage(resource.RUSAGE_SELF)
        print(json.dumps({**server.counters, "active": server.active, "cpu": usage.ru_utime + usage.ru_stime}), flush=True)


if __name__ == "__main__":
    main()
