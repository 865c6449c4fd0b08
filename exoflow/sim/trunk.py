"""A trunk of the embedded switch: an E1 span with its B-channels, or any number of channels behind one name."""

from __future__ import annotations

E1_SIGNALLING = 16  # timeslot 16 of each E1 carries the D-channel


class Trunk:
    """Which timeslots are taken. The exchange fills from the bottom, hunting `A` from the top (mod_freetdm.c:1284)."""

    def __init__(self, name: str, channels: int, span_id: int) -> None:
        self.name, self.channels, self.span_id = name, channels, span_id
        slots = (slot for slot in range(1, 2 * channels + 2) if slot % 31 != E1_SIGNALLING)
        self.slots = [slot for slot, _ in zip(slots, range(channels), strict=False)]
        self._taken: set[int] = set()
        self._round = 0

    @property
    def in_use(self) -> int:
        return len(self._taken)

    def take(self, hunt: str = "a") -> int | None:
        """A free timeslot, or None when all are taken. `hunt` as in FreeTDM's dial string, or a fixed channel in digits."""
        free = [slot for slot in self.slots if slot not in self._taken]
        if hunt.isdigit():
            free = [slot for slot in free if slot == int(hunt)]
        if not free:
            return None
        if hunt in ("r", "R"):
            self._round += 1
            slot = free[self._round % len(free)]
        else:
            slot = free[-1] if hunt == "A" else free[0]
        self._taken.add(slot)
        return slot

    def release(self, slot: int) -> None:
        self._taken.discard(slot)
