"""The models that are in memory, the device's and the host's, and how they leave. Device thread only."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator

from services.modelserver.engine.arrivals import Forecast
from services.modelserver.engine.device import Device
from services.modelserver.engine.eviction import Hold, Outlook, Plan, who_leaves
from services.modelserver.engine.held_model import TIERS, Held, Stage, Users
from services.modelserver.engine.host_weights import Memory
from services.modelserver.engine.protocol import Tier


class Holdings:
    """Keeps the models' bytes within both budgets. On a device without memory of its own there is only the device's."""

    def __init__(
        self, device: Device, memory: Memory, budget_bytes: int, host_budget_bytes: int, idle_s: float
    ) -> None:
        self.memory, self._idle_s = memory, idle_s
        self.budget_bytes, self.host_budget_bytes = budget_bytes, host_budget_bytes
        self.users = Users(0.0)
        self.forecast = Forecast()
        self._device = device
        self._held: dict[str, Held] = {}

    def __iter__(self) -> Iterator[Held]:
        return iter(list(self._held.values()))

    def get(self, pinned: str) -> Held | None:
        """Return a model that is held."""
        return self._held.get(pinned)

    def add(self, held: Held) -> None:
        """Hold a model that begins to be read."""
        self._held[held.pinned] = held

    def remove(self, held: Held) -> None:
        """Forget a model that holds no weights."""
        del self._held[held.pinned]

    def tiers(self) -> dict[str, Tier]:
        """Return where the models are that are not on disk."""
        return {held.pinned: TIERS[held.stage] for held in self if held.stage is not Stage.READING}

    def too_large(self, wanted_bytes: int) -> str:
        """Return why a model cannot be on the device, whoever leaves; empty when it can."""
        return who_leaves((), wanted_bytes, self.budget_bytes, Outlook(self.users.now_s)).why

    def turns_end_s(self) -> float:
        """Return when the next of the models that have a turn has had it; inf: none has."""
        return min((held.turn_until_s for held in self if self.users.has_turn(held)), default=math.inf)

    def has_turn(self, pinned: str) -> bool:
        """Whether a model is not to be asked to leave yet."""
        held = self._held.get(pinned)
        return held is not None and self.users.has_turn(held)

    def device_plan(self, wanted_bytes: int, leaving: Collection[str]) -> Plan:
        """Return who makes room on the device; of those in use the ones in `leaving` first, then those past their turn."""
        there = [held for held in self if held.stage is not Stage.RAM and (not self.memory.own or _on_device(held))]
        leaving = leaving or {held.pinned for held in there if not self.users.has_turn(held) and _on_device(held)}
        outlook = self.forecast.outlook(self.users.now_s, self.users.waiting, leaving)
        return who_leaves([self.users.on_device(held) for held in there], wanted_bytes, self.budget_bytes, outlook)

    def host_plan(self, wanted_bytes: int, wanted: Collection[str]) -> Plan:
        """Return who makes room in the host's memory; `wanted` are models on their way to the device."""
        outlook = self.forecast.outlook(self.users.now_s, self.users.waiting, ())
        there = [self.users.on_host(held, held.pinned in wanted) for held in self if held.host_bytes]
        return who_leaves(there, wanted_bytes, self.host_budget_bytes, outlook)

    def leave_device(self, names: Iterable[str]) -> None:
        """Let models leave the device, for the host's memory where they have a copy there."""
        gone = [self._held[pinned] for pinned in names]
        if not gone:
            return
        self._device.wait()
        dropped = False
        for held in gone:
            if held.host_bytes and held.weights is not None:
                held.weights.leave()
                held.stage = Stage.RAM
                held.last_use_s = max(held.last_use_s, self.users.now_s)
            else:
                self.drop(held)
                dropped = True
        self._device.release(search=dropped)  # weights that only leave the device are let go at once

    def leave_host(self, names: Iterable[str]) -> None:
        """Let models leave the host's memory; those on the device stay there."""
        for held in [self._held[pinned] for pinned in names]:
            if held.stage is Stage.VRAM and held.weights is not None:
                held.weights.forget_host()
                held.host_bytes = 0
            else:
                self.drop(held)

    def leave_all_idle(self) -> bool:
        """Let everybody leave the device who can; whether there was anybody."""
        free = [held.pinned for held in self if _is_free(self.users, held)]
        self.leave_device(free)
        return bool(free)

    def drop(self, held: Held) -> None:
        """Let a model's weights go from wherever they are."""
        if held.weights is not None:
            held.weights.let_go()
        self.remove(held)

    def release_idle(self, wanted: Collection[str]) -> None:
        """Let go what was not used for long: from the device first, from the host after as long a time again."""
        idle = [held for held in self._may_idle(wanted) if self._idle_at_s(held) <= self.users.now_s]
        self.leave_host([held.pinned for held in idle if held.stage is Stage.RAM])
        self.leave_device([held.pinned for held in idle if held.stage is Stage.VRAM])

    def idle_at_s(self, wanted: Collection[str]) -> float:
        """Return when the next model is to be released, if nothing uses it until then; inf: never."""
        return min(map(self._idle_at_s, self._may_idle(wanted)), default=math.inf)

    def _idle_at_s(self, held: Held) -> float:
        idle_s = held.folder.options.idle_s or self._idle_s
        return held.last_use_s + idle_s if idle_s else math.inf

    def _may_idle(self, wanted: Collection[str]) -> list[Held]:
        """Return who may be released some time; one in use was used now."""
        stay = {*wanted, *self.users.kept, *self.users.waiting}
        return [held for held in self if held.stage in (Stage.RAM, Stage.VRAM) and held.pinned not in stay]


def _on_device(held: Held) -> bool:
    return held.stage in (Stage.COMING, Stage.VRAM)


def _is_free(users: Users, held: Held) -> bool:
    return held.stage is Stage.VRAM and users.on_device(held).hold is Hold.FREE
