"""Every test runs as the app runs: with gevent's cooperative standard library."""

from gevent import monkey

monkey.patch_all()
