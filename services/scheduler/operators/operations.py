"""What operators asked of the fleet: workers that get nothing new, and models that stay where they are.

Kept by the names of the workers, which outlive their processes, in a document of the store: it holds after a restart
of either side. Changed by AdminService, read by the placement.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from libs.clock import Clock
from libs.ids import WorkerId
from services.scheduler.replicas.lead import Lead
from services.scheduler.storage.persistence import persistently
from services.scheduler.storage.store import JobStore

DOCUMENT = "operations"


class Wishes(Protocol):
    """What the placement reads."""

    @property
    def drained(self) -> frozenset[WorkerId]:
        """Workers that get no job."""
        ...

    @property
    def pins(self) -> Mapping[WorkerId, frozenset[str]]:
        """The model versions (`id@version`) that a worker is to hold, by worker."""
        ...


@dataclass(frozen=True, slots=True)
class Wished:
    """The wishes at one moment. Nobody changes one: a change makes another."""

    drained: frozenset[WorkerId] = frozenset()
    pins: Mapping[WorkerId, frozenset[str]] = field(default_factory=dict)

    def drain(self, worker: WorkerId, *, wanted: bool) -> Wished:
        """Return the wishes with a worker drained, or not."""
        changed = self.drained | {worker} if wanted else self.drained - {worker}
        return dataclasses.replace(self, drained=changed)

    def pin(self, worker: WorkerId, model_version: str, *, wanted: bool) -> Wished:
        """Return the wishes with a model pinned to a worker, or not."""
        before = self.pins.get(worker, frozenset())
        after = before | {model_version} if wanted else before - {model_version}
        others = {other: models for other, models in self.pins.items() if other != worker}
        return dataclasses.replace(self, pins=others | ({worker: after} if after else {}))

    def to_document(self) -> dict[str, Any]:
        """Return what is kept in the store."""
        pins = {worker: sorted(models) for worker, models in sorted(self.pins.items())}
        return {"drained": sorted(self.drained), "pins": pins}


def from_document(document: Mapping[str, Any]) -> Wished:
    """Return the wishes that were kept."""
    pins = {WorkerId(worker): frozenset(models) for worker, models in document["pins"].items()}
    return Wished(frozenset(WorkerId(worker) for worker in document["drained"]), pins)


class Operations:
    """The wishes that hold now; each change is kept before it holds."""

    def __init__(self, store: JobStore, clock: Clock, lead: Lead) -> None:
        self._store = store
        self._clock = clock
        self._lead = lead
        self._wished = Wished()
        self._changing = asyncio.Lock()
        self.on_changed: Callable[[], None] = _nobody  # rings the dispatcher

    @property
    def drained(self) -> frozenset[WorkerId]:
        """Workers that get no job."""
        return self._wished.drained

    @property
    def pins(self) -> Mapping[WorkerId, frozenset[str]]:
        """The model versions that a worker is to hold, by worker."""
        return self._wished.pins

    async def load(self) -> None:
        """Take up what was asked for before."""
        document = await persistently(self._clock, lambda: self._store.load_document(DOCUMENT))
        if document is not None:
            self._wished = from_document(document)

    async def drain(self, worker: WorkerId, *, wanted: bool) -> None:
        """Give a worker no job from now on, or jobs again. Raises StoreUnavailable; then nothing changes here."""
        await self._change(lambda wished: wished.drain(worker, wanted=wanted))

    async def pin(self, worker: WorkerId, model_version: str, *, wanted: bool) -> None:
        """Have a worker hold a model, or let it be as others. Raises StoreUnavailable; then nothing changes here."""
        await self._change(lambda wished: wished.pin(worker, model_version, wanted=wanted))

    async def _change(self, change: Callable[[Wished], Wished]) -> None:
        async with self._changing:  # one after the other, or the later document might lack the earlier wish
            wished = change(self._wished)
            await self._store.save_document(DOCUMENT, wished.to_document(), self._lead.epoch)
            self._wished = wished
        self.on_changed()


def _nobody() -> None:
    return None
