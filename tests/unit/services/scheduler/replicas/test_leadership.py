"""A scheduler that is alone takes the lead once, however often it has to ask."""

from __future__ import annotations

import asyncio

import pytest

from libs.testing.clock import ManualClock
from services.scheduler.replicas import leadership
from services.scheduler.storage.memory_store import MemoryStore
from tests.unit.services.scheduler.faulty_store import Failing, FaultyStore, once


@pytest.mark.parametrize("failing", [Failing.BEFORE, Failing.AFTER, Failing.LATE])
async def test_an_answer_that_was_lost_deposes_nobody(failing: Failing) -> None:
    store, clock = MemoryStore(), ManualClock()
    taking = asyncio.create_task(
        leadership.take(FaultyStore(store, clock, once("take_lead", 0, failing)).promised, clock)
    )
    await clock.advance(10.0)  # what comes late has come
    epoch = await taking
    assert (await store.leader()).epoch == epoch
    assert await store.notes(epoch, 1) == []


async def test_every_start_is_another_leader() -> None:
    store, clock = MemoryStore(), ManualClock()
    first = await leadership.take(store, clock)
    assert await leadership.take(store, clock) == first + 1
