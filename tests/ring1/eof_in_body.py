"""Run by test_esl_cures.py in a process of its own: the connection ends inside a frame's body. Prints `done` if it goes on."""

import signal
import sys

import gevent
from eslpeer import tcp_pair
from greenswitch.esl import OutboundSession

from exoflow.esl.session import CallSession

ours, theirs = tcp_pair()
session = (CallSession if sys.argv[1] == "exoflow" else OutboundSession)(("127.0.0.1", 0), ours)
signal.setitimer(signal.ITIMER_REAL, 0.6)  # its default action ends a process that computes for ever
theirs.sendall(b"Content-Length: 500\nContent-Type: text/event-plain\n\nEvent-Name: CHANNEL_ANSWER\n")
theirs.close()
read = getattr(session, "closed", None) or session._receive_events_greenlet
gevent.wait([read], timeout=0.3)
print("done" if read.ready() and not session.connected else "waits")
