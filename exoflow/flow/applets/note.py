"""note: writes a line into the call's journey."""

from __future__ import annotations

from exoflow.config.actions import NoteStep
from exoflow.flow.here import Here
from exoflow.flow.templates import Texts


class Note:
    """Writes a line into the call's journey. `{name}` stands for a variable, or for what every call has. Secret digits are
    stars.

    Branches: `next`.
    Caller gone: works as ever. Store gone: the line waits in memory for it. CRM gone: works as ever.
    Journey: note (evidence unset: names that had no value).
    """

    needs_caller = False

    def run(self, here: Here, step: NoteStep) -> str:
        texts = Texts(here, seen=True)
        line = texts.line(step.note.text)
        here.note("C", "note", line, unset=texts.unset)
        return "next"

    def gone(self, here: Here, step: NoteStep) -> None:
        """Never asked: it runs without a caller and ends by itself."""
