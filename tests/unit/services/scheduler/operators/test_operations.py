"""What operators asked for holds after a restart, whoever asks at the same time."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from libs.ids import WorkerId
from libs.testing.clock import ManualClock
from services.scheduler.operators.operations import Operations, Wished, from_document
from services.scheduler.replicas.lead import Lead
from services.scheduler.storage.memory_store import MemoryStore
from services.scheduler.storage.store import StoreUnavailable

A, B = WorkerId("worker-a"), WorkerId("worker-b")


def test_a_document_gives_the_same_wishes_back() -> None:
    wished = Wished().drain(A, wanted=True).pin(B, "small@1", wanted=True).pin(B, "large@1", wanted=True)
    assert from_document(wished.to_document()) == wished


def test_a_wish_that_is_taken_back_leaves_nothing() -> None:
    wished = Wished().drain(A, wanted=True).pin(A, "small@1", wanted=True)
    assert wished.drain(A, wanted=False).pin(A, "small@1", wanted=False) == Wished()


async def test_wishes_hold_after_a_restart() -> None:
    store, clock = MemoryStore(), ManualClock()
    before = Operations(store, clock, Lead())
    await before.drain(A, wanted=True)
    await before.pin(B, "small@1", wanted=True)
    after = Operations(store, clock, Lead())
    await after.load()
    assert after.drained == {A}
    assert after.pins == {B: frozenset({"small@1"})}


async def test_wishes_at_the_same_moment_are_all_kept() -> None:
    class SlowStore(MemoryStore):
        async def save_document(self, name: str, document: dict[str, Any], epoch: int) -> None:
            await asyncio.sleep(0)
            await super().save_document(name, document, epoch)

    store, clock = SlowStore(), ManualClock()
    operations = Operations(store, clock, Lead())
    await asyncio.gather(operations.drain(A, wanted=True), operations.drain(B, wanted=True))
    after = Operations(store, clock, Lead())
    await after.load()
    assert after.drained == operations.drained == {A, B}


async def test_a_wish_that_is_not_kept_does_not_hold() -> None:
    class AwayStore(MemoryStore):
        async def save_document(self, name: str, document: dict[str, Any], epoch: int) -> None:
            raise StoreUnavailable("away")

    operations = Operations(AwayStore(), ManualClock(), Lead())
    rung: list[bool] = []
    operations.on_changed = lambda: rung.append(True)
    with pytest.raises(StoreUnavailable):
        await operations.drain(A, wanted=True)
    assert not operations.drained
    assert not rung
