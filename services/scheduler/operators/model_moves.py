"""Warming and evicting models on an operator's word: which workers are meant, and what each of them said."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from libs import errors
from libs.clients.modelserver import ModelServer
from libs.fleet.record import WorkerRecord
from libs.generation.model import find_model
from libs.ids import WorkerId
from services.scheduler.catalog import CatalogKeeper
from services.scheduler.placement.fleet import Fleet

TIERS = ("vram", "ram")

Wish = Callable[[ModelServer, str], Awaitable[str]]  # returns why not, or nothing


@dataclass(frozen=True, slots=True)
class Move:
    """What a worker said; an empty `refusal` means that it does so."""

    worker_id: WorkerId
    pinned: str
    refusal: str


class ModelMoves:
    """Asks workers, all of them at once."""

    def __init__(self, fleet: Fleet, catalog: CatalogKeeper) -> None:
        self._fleet = fleet
        self._catalog = catalog

    async def warm(self, model: str, worker_id: str, tier: str) -> list[Move]:
        """Have a worker, or all that can run it, bring a model into memory.

        Raises InvalidRequest, NotFound for an unknown worker or model, PreconditionFailed when nobody can run it.
        """
        near = tier or TIERS[0]
        if near not in TIERS:
            raise errors.InvalidRequest(f"A model is brought into {' or '.join(TIERS)}, not into {near[:40]!r}.")

        async def wish(server: ModelServer, pinned: str) -> str:
            await server.warm(pinned, near)
            return ""

        return await self._ask_all(model, worker_id, wish)

    async def evict(self, model: str, worker_id: str) -> list[Move]:
        """Have a worker, or all that can run it, let a model go; raises like `warm`."""

        async def wish(server: ModelServer, pinned: str) -> str:
            return "" if await server.evict(pinned) else "It draws, or was not in memory."

        return await self._ask_all(model, worker_id, wish)

    async def _ask_all(self, model: str, worker_id: str, wish: Wish) -> list[Move]:
        catalog = self._catalog.catalog
        pinned = find_model(model, catalog.models, catalog.default_model).pinned
        records = self._meant(pinned, worker_id)
        return list(await asyncio.gather(*(self._ask(record, pinned, wish) for record in records)))

    async def _ask(self, record: WorkerRecord, pinned: str, wish: Wish) -> Move:
        try:
            refusal = await wish(self._fleet.server(record), pinned)
        except errors.DarkroomError as error:
            refusal = error.message
        return Move(record.worker_id, pinned, refusal)

    def _meant(self, pinned: str, worker_id: str) -> list[WorkerRecord]:
        workers = self._fleet.workers()
        if worker_id:
            if WorkerId(worker_id) not in workers:
                near = ", ".join(sorted(workers)) or "none"
                raise errors.NotFound(f"There is no worker {worker_id[:63]!r}. Alive: {near}.")
            return [workers[WorkerId(worker_id)]]
        able = [record for record in workers.values() if pinned in record.models]
        if not able:
            raise errors.PreconditionFailed(f"No living worker can run {pinned}.", reason="MODEL_UNUSABLE")
        return sorted(able, key=lambda record: record.worker_id)
