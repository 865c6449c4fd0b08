"""The plain IVR call that all contestants make: answer, three sets, a prompt, hangup."""

from __future__ import annotations

SETS = ("exo_call=0123456789abcdef0123456789abcdef", "exo_lang=en", "exo_step=welcome")
PROMPT = "tone_stream://%(100,0,400)"  # a tenth of a second, so that real calls are over soon
CAUSE = "NORMAL_CLEARING"
LEASE = "+8 exoflow_lease XML from-pri"  # as exoflow arms it; it never fires in so short a call
SECONDS = 10.0  # the longest wait for one application
