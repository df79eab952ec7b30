"""Several models on one device: which are in its memory, which in the host's, which come next and who leaves for them.

    want → (read from files, beside drawing) → at a step boundary: others leave, weights are copied, beside drawing
         → at a later step boundary: Loaded → on_device

**Order.** Wants are served in the order in which they were first said. Reading goes ahead for all of them as far as
the host's memory allows. The device's room is given strictly in order among those that are read: while the first
waits for room nobody behind it takes any, so a large model is not starved by small ones.

**Who must leave** is decided by eviction.py; those that do not draw leave at once. When they are not enough, some that
draw must finish: `closed()` names them, and the engine begins no more of their requests. The choice stands
until the wanted model is in or somebody idle makes it needless, so two busy models cannot take turns in delaying it.
Requests of a model that had to leave want it back, at the end of the line.

**Turns.** A model that came in is not sent away while it is in use or waited for, before its turn is over: at least
5 s and three times what the swap took. So several models that are wanted all the time share the device in turns that
swaps take at most a quarter of, and each waits no longer than the turns, running requests and swaps of those before it.

**Idle** models leave the device after `idle_s`, the worker's or their own, and the host's memory when as long a time has gone by again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING

from services.modelserver.engine.device import Device
from services.modelserver.engine.held_model import Stage, Users
from services.modelserver.engine.holdings import Holdings
from services.modelserver.engine.host_weights import Memory, memory_of
from services.modelserver.engine.protocol import Tier
from services.modelserver.engine.wants import Loaded, LoadFailed, Wants
from services.modelserver.models import ModelFolder

if TYPE_CHECKING:
    from services.modelserver.engine.loading import LoadedModel

__all__ = ["LoadFailed", "Loaded", "Residency"]


class Residency:
    """All but `tiers` and `progress` belongs to the device thread; `load(folder, dtype, tell)` runs in its own.

    `idle_s` of 0 keeps idle models where they are; a model's own option comes before it.
    """

    def __init__(
        self,
        device: Device,
        budget_bytes: int,
        host_budget_bytes: int,
        load: Callable[..., LoadedModel],
        *,
        clock: Callable[[], float],
        idle_s: float,
        wake: Callable[[], None],
    ) -> None:
        self._device, self._clock, self._wake = device, clock, wake
        self._held = Holdings(device, memory_of(device), budget_bytes, host_budget_bytes, idle_s)
        self._wants = Wants(device, self._held, load, wake, clock)
        self._tiers: dict[str, Tier] = {}
        self._reminded_s = clock()

    def use_memory(self, memory: Memory) -> None:
        """Copy weights by other means than the device's own; before anything is wanted."""
        self._held.memory = memory

    def on_device(self, pinned: str) -> LoadedModel | None:
        """Return a model that can draw now; who asks is going to use it."""
        held = self._held.get(pinned)
        if held is None or held.stage is not Stage.VRAM:
            return None
        held.last_use_s = self._clock()
        return held.model

    def want(self, folder: ModelFolder, tier: Tier = Tier.VRAM) -> None:
        """Begin to bring a model. Call it for every request: that is also how uses are counted."""
        pinned, now_s = folder.model.pinned, self._clock()
        if tier is Tier.DISK:
            return
        if not self._held.memory.own:
            tier = Tier.VRAM
        if pinned not in self._wants:
            self._held.forecast.note(pinned, now_s)
        held = self._held.get(pinned)
        if held is not None and not held.dropped:
            held.last_use_s = now_s
            if held.stage is Stage.VRAM or (held.stage is Stage.RAM and tier is Tier.RAM):
                return
        if self._wants.add(folder, tier):
            self._wake()

    def unwant(self, pinned: str) -> None:
        """Let a model come no further than it is: nobody waits for it any more."""
        self._wants.remove(pinned)

    def advance(self, busy: Collection[str], waiting: Collection[str] = ()) -> list[Loaded | LoadFailed]:
        """Do what can be done at this step boundary, and return what has changed.

        `busy`: every model that a begun request uses, in whatever thread; `waiting`: those that requests wait for.
        """
        users = Users(self._clock(), frozenset(busy), frozenset(waiting), self._held.users.kept)
        self._held.users = users
        for held in self._held:
            if held.pinned in users.busy and held.stage is Stage.VRAM:
                held.last_use_s, held.used = users.now_s, True
        changes = self._wants.serve()
        self._held.release_idle(self._wants.names())
        self._tiers = self._held.tiers()
        if changes and self._wants:
            self._wake()  # what came or failed may have made way for the next
        self._remind()
        return changes

    def evict(self, pinned: str, busy: Collection[str]) -> bool:
        """Let a model's weights go from every memory; False when it draws or is not here."""
        held = self._held.get(pinned)
        if held is None or pinned in busy or held.dropped:
            return False
        self._wants.remove(pinned)
        if held.stage is Stage.READING:
            self._wants.drop_read(held)
            return True
        self._device.wait()
        self._held.drop(held)
        self._device.release()
        self._tiers = self._held.tiers()
        return True

    def keep(self, pins: Collection[str]) -> None:
        """Let these models leave only when `evict` tells them to."""
        users = self._held.users
        self._held.users = Users(users.now_s, users.busy, users.waiting, frozenset(pins))

    def hint(self, next_use_in_s: Mapping[str, float], complete_for_s: float = 0.0) -> None:
        """Take the scheduler's word for when models are used next, in place of the one before; inf: never.

        Models without a hint are not used for `complete_for_s`.
        """
        now_s = self._clock()
        uses = {pinned: now_s + in_s for pinned, in_s in next_use_in_s.items()}
        self._held.forecast.hint(uses, now_s + complete_for_s)

    def tiers(self) -> dict[str, Tier]:
        """Return where the models are that are not on disk. From every thread."""
        return self._tiers

    def progress(self) -> Mapping[str, float]:
        """Return how much of each model that is being read is done, 0 to 1. From every thread."""
        return self._wants.progress()

    def blocked_by(self, pinned: str) -> frozenset[str]:
        """Return the models that must finish before a wanted one has room: the engine begins no more of their requests."""
        return self._finishing(self._wants.leaving_for(pinned)) if pinned in self._wants else frozenset()

    def closed(self) -> frozenset[str]:
        """Return all models of which the engine begins no more requests, for whomever: some may be wanted by nobody
        who waits, but by `warm`.
        """
        return self._finishing(self._wants.leaving_for(""))

    def _finishing(self, leaving: frozenset[str]) -> frozenset[str]:
        return frozenset(name for name in leaving & self._held.users.busy if not self._held.has_turn(name))

    def close(self) -> None:
        """End the thread and let everything go."""
        self._wants.close()
        for held in self._held:
            if held.stage is not Stage.READING:
                self._held.drop(held)
        self._tiers = {}

    def _remind(self) -> None:
        """Be woken when time alone will have made something possible."""
        now_s, due_s = self._held.users.now_s, self._held.idle_at_s(self._wants.names())
        if self._wants:
            due_s = min(due_s, self._held.turns_end_s())
        if due_s < math.inf and (self._reminded_s <= now_s or due_s < self._reminded_s):
            self._reminded_s = due_s
            self._wants.remind(due_s - now_s)
