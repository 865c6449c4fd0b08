"""Every test runs as the app runs: with gevent's cooperative standard library."""

from gevent import monkey

monkey.patch_all()

from hypothesis import settings  # noqa: E402

# a busy machine takes longer for an example and is no defect
settings.register_profile("exoflow", deadline=None)
settings.load_profile("exoflow")
