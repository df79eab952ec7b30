"""A model that is in memory or on its way, and who may leave for another one.

    (not held) → READING → RAM ⇄ COMING → VRAM        leaving the device: VRAM → RAM, leaving the host: → (not held)

On a device that computes in the host's memory there is no RAM: READING → VRAM → (not held).
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

from services.modelserver.engine.eviction import Hold, Resident
from services.modelserver.engine.host_weights import HostWeights
from services.modelserver.engine.protocol import Tier
from services.modelserver.models import ModelFolder

if TYPE_CHECKING:
    from services.modelserver.engine.loading import LoadedModel

SHORTEST_TURN_S = 5.0
TURN_PER_SWAP = 3.0  # so that bringing models in takes at most a quarter of the time when several want the device


class Stage(enum.Enum):
    """Where a held model is."""

    READING = "reading"  # from its files, or in line for it
    RAM = "ram"
    COMING = "coming"  # being copied to the device
    VRAM = "vram"


TIERS = {Stage.READING: Tier.DISK, Stage.RAM: Tier.RAM, Stage.COMING: Tier.RAM, Stage.VRAM: Tier.VRAM}


@dataclass(slots=True, eq=False)
class Held:
    """Times in monotonic seconds. `bytes` is an estimate until the model was read."""

    folder: ModelFolder
    bytes: int
    began_s: float  # to be read
    last_use_s: float
    stage: Stage = Stage.READING
    host_bytes: int = 0  # of its copy in the host's memory, or room for it; 0: has none besides the device's
    model: LoadedModel | None = None
    weights: HostWeights | None = None
    read_s: float = 0.0
    swap_began_s: float = 0.0
    turn_until_s: float = 0.0
    used: bool = False  # since it came to the device
    dropped: bool = False  # while it was read

    @property
    def pinned(self) -> str:
        """The model's name, `id@version`."""
        return self.folder.model.pinned

    def begin_turn(self, now_s: float, swap_s: float) -> None:
        """It is on the device now, and stays a while for those who waited for it."""
        self.stage = Stage.VRAM
        self.last_use_s = now_s
        self.turn_until_s = now_s + max(SHORTEST_TURN_S, TURN_PER_SWAP * swap_s)
        self.used = False


@dataclass(frozen=True, slots=True)
class Users:
    """Who uses what at this step boundary."""

    now_s: float
    busy: frozenset[str] = frozenset()  # models that begun requests use
    waiting: frozenset[str] = frozenset()  # models that requests wait for
    kept: frozenset[str] = frozenset()  # models that the operator holds

    def has_turn(self, held: Held) -> bool:
        """Whether it has come for requests that have not had their share of the device yet."""
        in_demand = held.pinned in self.busy or held.pinned in self.waiting or not held.used
        return held.stage is Stage.VRAM and in_demand and self.now_s < held.turn_until_s

    def on_device(self, held: Held) -> Resident:
        """Return it as one of the device's memory."""
        hold = Hold.FREE
        if held.stage is Stage.VRAM and held.pinned in self.kept:
            hold = Hold.KEPT
        elif held.stage is not Stage.VRAM or held.pinned in self.busy or self.has_turn(held):
            hold = Hold.BUSY
        return Resident(held.pinned, held.bytes, held.last_use_s, hold)

    def on_host(self, held: Held, wanted: bool) -> Resident:
        """Return it as one of the host's memory. What is wanted on the device stays until it is there."""
        hold = Hold.FREE
        if held.stage is Stage.RAM and held.pinned in self.kept:
            hold = Hold.KEPT
        elif held.stage in (Stage.READING, Stage.COMING) or (held.stage is Stage.RAM and wanted):
            hold = Hold.BUSY
        return Resident(held.pinned, held.host_bytes, held.last_use_s, hold)
