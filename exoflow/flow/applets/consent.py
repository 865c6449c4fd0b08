"""consent: asks the caller before anything is recorded."""

from __future__ import annotations

from contextlib import suppress

from exoflow.config.actions import ConsentStep
from exoflow.config.steps import Prompt
from exoflow.errors import CallEnded
from exoflow.flow import keys
from exoflow.flow.here import Here


class Consent:
    """Asks before anything is recorded. The answer holds for the rest of the call: after a refusal a `connect` with `record`
    talks without recording, and a `voicemail` is passed over. A second consent step does not ask again. Silence, or other
    keys until the last attempt, are a refusal.

    Branches: `agreed`; `refused`.
    Caller gone: `refused`, for he has not agreed. Store gone: works as ever. CRM gone: works as ever.
    Journey: consent.agreed or consent.refused (evidence key); consent.unclear (one an attempt); consent.known (asked before);
    recording.declined (at a later step that would have recorded).
    """

    needs_caller = True

    def run(self, here: Here, step: ConsentStep) -> str:
        if here.consent is not None and not here.has_ended:
            here.note("C", "consent.known", f"Asked before: the caller {'agreed' if here.consent else 'refused'}")
            return "agreed" if here.consent else "refused"
        here.answer()
        key = self._ask(here, step)
        here.consent = key == step.consent.agree
        answer = "agreed" if here.consent else "refused"
        with suppress(CallEnded):  # it is for the dialplan's fallback, which may have to do without us (50-fallback.xml)
            here.execute("set", f"exo_consent={answer}")
        if here.consent:
            here.note("C", "consent.agreed", "The caller agreed to being recorded", key=key)
        else:
            without = "No consent to being recorded: none of the two keys was pressed"
            why = "The caller refused to be recorded" if key else without
            here.note("C", "consent.refused", why, key=key)
        return answer

    def _ask(self, here: Here, step: ConsentStep) -> str:
        """One of the two keys; empty if neither came."""
        consent = step.consent
        prompts: list[Prompt] = [consent] if here.data else [*here.pending, consent]
        here.pending = []
        for attempt in range(here.data.get("attempt", 1), consent.attempts + 1):
            key = keys.one(here, prompts, timeout=consent.timeout, keys=(consent.agree, consent.refuse))
            if key in (consent.agree, consent.refuse):
                return key
            what = f"Key {key} is neither {consent.agree} nor {consent.refuse}" if key else "No key"
            here.note("C", "consent.unclear", f"{what} (attempt {attempt} of {consent.attempts})", key=key, attempt=attempt)
            here.keep(attempt=attempt + 1)
            prompts = [consent]
        return ""

    def gone(self, here: Here, step: ConsentStep) -> str:
        return "refused"
