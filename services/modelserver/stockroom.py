"""Which models are in memory, on an operator's or the scheduler's word. Event loop only."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from libs.errors import PreconditionFailed, Unavailable
from libs.rpc import deadlines
from services.modelserver.device_thread import DeviceThread
from services.modelserver.engine.protocol import Engine, Tier
from services.modelserver.refusal import Unusable
from services.modelserver.shelf import Shelf


@dataclass(frozen=True, slots=True)
class Place:
    """Where a model's weights are. `load_share` is None while nothing is loaded."""

    pinned: str
    tier: Tier
    weight_bytes: int
    load_share: float | None


class Stockroom:
    """Warms, evicts and tells."""

    def __init__(self, engine: Engine, device: DeviceThread, shelf: Shelf) -> None:
        self._engine, self._device, self._shelf = engine, device, shelf

    def warm(self, pinned: str, tier: Tier) -> None:
        """Begin to bring a model; raises PreconditionFailed when it is not here or not usable."""
        try:
            folder = self._shelf.usable(pinned)
        except Unusable as refusal:
            raise PreconditionFailed(f"{refusal}.", reason="MODEL_UNUSABLE") from None
        if folder.options.compile and tier is Tier.VRAM:
            self._device.coming(pinned)
        self._device.tell(lambda engine: engine.warm(folder, tier))

    async def evict(self, pinned: str) -> bool:
        """Let a model go. False: it draws, or was not in memory. Raises Unavailable when the device is in a long pass."""
        try:
            async with asyncio.timeout(deadlines.CONTROL_S):
                return await self._device.ask(lambda engine: engine.evict(pinned))
        except TimeoutError:
            told = "The device is in the middle of a long pass; it may be done a little later."
            raise Unavailable(told, retry_after_s=deadlines.CONTROL_S) from None

    def places(self) -> list[Place]:
        """Return where every usable model is."""
        tiers = self._engine.residency()
        loads = self._engine.load_share()
        return [
            Place(pinned, tiers.get(pinned, Tier.DISK), self._shelf.weight_bytes(pinned), loads.get(pinned))
            for pinned in self._shelf.usable_names()
        ]

    @property
    def memory_bytes(self) -> int:
        """Return the device memory in use by this process."""
        return self._engine.memory_bytes()
