"""Models that are wanted and not there yet: read from their files, given room, copied to the device. In this order.

The rules stand in residency.py. Device thread only.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import torch

from services.modelserver.engine.device import Device
from services.modelserver.engine.eviction import Plan
from services.modelserver.engine.held_model import Held, Stage
from services.modelserver.engine.holdings import Holdings
from services.modelserver.engine.host_weights import HostWeights
from services.modelserver.engine.load_thread import LoadThread, Read, Tell
from services.modelserver.engine.protocol import EngineFailure, OutOfMemory, Tier
from services.modelserver.engine.weight_estimate import estimated_bytes
from services.modelserver.models import ModelFolder

logger = logging.getLogger(__name__)

if TYPE_CHECKING:
    from services.modelserver.engine.loading import LoadedModel

Load: TypeAlias = "Callable[[ModelFolder, torch.dtype, Tell], LoadedModel]"


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model is where it was wanted. Times in Unix seconds; `read_s` of it went by reading its files."""

    pinned: str
    tier: Tier
    start_s: float
    end_s: float
    read_s: float


@dataclass(frozen=True, slots=True)
class LoadFailed:
    """A model did not come and is not wanted any more: an EngineFailure, or whatever a library raised."""

    pinned: str
    error: Exception


@dataclass(slots=True, eq=False)
class Want:
    """A model to bring into a tier. `leaving` are models in use that finish for it."""

    folder: ModelFolder
    tier: Tier
    since_s: float
    leaving: frozenset[str] = frozenset()

    @property
    def pinned(self) -> str:
        """The model's name, `id@version`."""
        return self.folder.model.pinned


class Wants:
    """In the order in which they were first said."""

    def __init__(
        self, device: Device, held: Holdings, load: Load, wake: Callable[[], None], clock: Callable[[], float]
    ) -> None:
        self._device, self._held, self._load, self._clock = device, held, load, clock
        self._thread: LoadThread[tuple[LoadedModel, HostWeights]] = LoadThread(wake, clock)
        self._wants: dict[str, Want] = {}
        self._changes: list[Loaded | LoadFailed] = []
        self.progress = self._thread.shares
        self.remind = self._thread.remind

    def __contains__(self, pinned: str) -> bool:
        return pinned in self._wants

    def __len__(self) -> int:
        return len(self._wants)

    def names(self) -> frozenset[str]:
        """Return the models that are wanted."""
        return frozenset(self._wants)

    def leaving_for(self, pinned: str) -> frozenset[str]:
        """Return the models in use that finish for this one or for those before it; for all when it is not wanted."""
        leaving: set[str] = set()
        for want in self._wants.values():
            leaving |= want.leaving
            if want.pinned == pinned:
                break
        return frozenset(leaving)

    def add(self, folder: ModelFolder, tier: Tier) -> bool:
        """Want a model; one that is wanted already keeps its place. False when that says nothing new."""
        want = self._wants.get(folder.model.pinned)
        if want is None:
            self._wants[folder.model.pinned] = Want(folder, tier, self._clock())
        elif want.tier is not Tier.VRAM and tier is Tier.VRAM:
            want.tier = tier
        else:
            return False
        return True

    def remove(self, pinned: str) -> None:
        """Let a model come no further than it is."""
        self._wants.pop(pinned, None)

    def drop_read(self, held: Held) -> None:
        """Have nothing come of a model that is being read."""
        held.dropped = True
        self._thread.drop(held.pinned)

    def close(self) -> None:
        """End the thread, and let go of what it has read."""
        self._thread.close()
        for read in self._thread.results():
            if read.value is not None:
                read.value[1].let_go()
        self._wants.clear()

    def serve(self) -> list[Loaded | LoadFailed]:
        """Do what can be done now."""
        for read in self._thread.results():
            self._take(read)
        held_up = False  # whether somebody waits for room on the device: nobody behind takes any
        for want in list(self._wants.values()):
            held = self._held.get(want.pinned)
            if held is None and (self._held.memory.own or not held_up):
                held_up |= self._begin_to_read(want)
            elif held is not None and held.stage is Stage.RAM and want.tier is Tier.VRAM and not held_up:
                held_up |= self._bring(want, held)
        self._finish_swaps()
        changes, self._changes = self._changes, []
        return changes

    def _begin_to_read(self, want: Want) -> bool:
        """Have a model read when there is room for it; return whether it waits for room on the device."""
        folder, dtype, memory = want.folder, self._device.dtype(want.folder.options.dtype), self._held.memory
        size, host_bytes = estimated_bytes(folder, dtype.itemsize), 0
        if not memory.own:
            plan = self._held.device_plan(size, want.leaving)
        elif want.tier is Tier.VRAM and self._held.too_large(size):
            plan = Plan(why=self._held.too_large(size))
        else:  # a model larger than the host's budget goes through it, alone, and keeps no copy there
            host_bytes = min(size, self._held.host_budget_bytes) if want.tier is Tier.VRAM else size
            plan = self._held.host_plan(host_bytes, self._wants)
        if not plan.possible:
            waits = self._put_off(want, plan)
            return waits and not memory.own  # for the host's memory nobody who draws must finish
        (self._held.leave_host if memory.own else self._held.leave_device)(plan.leave)
        now_s = self._held.users.now_s
        self._held.add(Held(folder, size, now_s, now_s, host_bytes=host_bytes))
        self._thread.put(want.pinned, lambda tell: self._read(folder, dtype, tell))
        return False

    def _read(self, folder: ModelFolder, dtype: torch.dtype, tell: Tell) -> tuple[LoadedModel, HostWeights]:
        """Read a model into the host's memory. In the thread that loads."""
        model = self._load(folder, dtype, tell)
        return model, HostWeights(model.pipe, self._held.memory)

    def _take(self, read: Read[tuple[LoadedModel, HostWeights]]) -> None:
        """Hold what was read, or tell why there is nothing."""
        held, want = self._held.get(read.pinned), self._wants.get(read.pinned)
        assert held is not None, "what is read is held until it is taken"
        if read.value is None or held.dropped:
            self._held.remove(held)
            if read.value is not None:
                read.value[1].let_go()
            elif read.error is not None and not held.dropped:
                self._fail(held.pinned, read.error)
            return
        held.model, held.weights = read.value
        held.bytes, held.read_s, held.last_use_s = held.weights.bytes, read.seconds, self._held.users.now_s
        held.host_bytes = min(held.bytes, self._held.host_budget_bytes) if self._held.memory.own else 0
        held.stage = Stage.RAM
        if self._held.too_large(held.bytes):  # than its files let expect
            self._held.drop(held)
            self._fail(held.pinned, OutOfMemory(self._held.too_large(held.bytes)))
        elif not self._held.memory.own:
            held.begin_turn(self._held.users.now_s, read.seconds)
            self._finish(held)
            self._held.leave_device(self._held.device_plan(0, ()).leave)
        else:
            self._held.leave_host(self._held.host_plan(0, self._wants).leave)
            if want is not None and want.tier is Tier.RAM:
                self._finish(held)

    def _bring(self, want: Want, held: Held) -> bool:
        """Begin to copy a model to the device when there is room; return whether it waits for that."""
        plan = self._held.device_plan(held.bytes, want.leaving)
        if not plan.possible:
            return self._put_off(want, plan)
        assert held.weights is not None
        held.swap_began_s = self._clock()
        self._held.leave_device(plan.leave)
        try:
            try:
                held.weights.enter()
            except OutOfMemory:  # drawing takes more than was thought: let everybody go who can
                if not self._held.leave_all_idle():
                    raise
                held.weights.enter()
        except (EngineFailure, RuntimeError) as error:
            self._fail(held.pinned, error)
        else:
            held.stage = Stage.COMING
        return False

    def _finish_swaps(self) -> None:
        """Look who has arrived; when nothing draws, wait for them."""
        for held in self._held:
            if held.stage is not Stage.COMING or held.weights is None:
                continue
            if held.weights.arrived(wait=not self._held.users.busy):
                held.begin_turn(self._clock(), self._clock() - held.swap_began_s)
                self._finish(held)
                if held.bytes > self._held.host_budget_bytes:
                    self._held.leave_host([held.pinned])

    def _put_off(self, want: Want, plan: Plan) -> bool:
        """Wait for those in use, or give up when that would not help; return whether it waits."""
        want.leaving = frozenset(plan.waits_for)
        if not plan.waits_for:
            self._fail(want.pinned, OutOfMemory(plan.why))
        return bool(plan.waits_for)

    def _finish(self, held: Held) -> None:
        want = self._wants.pop(held.pinned, None)
        if want is None:
            return
        tier = Tier.RAM if held.stage is Stage.RAM else Tier.VRAM
        was_read = held.began_s >= want.since_s
        took_s = self._clock() - (held.began_s if was_read else held.swap_began_s)
        end_s = time.time()
        self._changes.append(Loaded(held.pinned, tier, end_s - took_s, end_s, held.read_s if was_read else 0.0))
        extra = {"model": held.pinned, "tier": tier.value, "bytes": held.bytes, "seconds": round(took_s, 3)}
        logger.info("model loaded", extra=extra)

    def _fail(self, pinned: str, error: Exception) -> None:
        self._wants.pop(pinned, None)
        self._changes.append(LoadFailed(pinned, error))
        logger.warning("model not loaded", extra={"model": pinned, "cause": str(error)})
