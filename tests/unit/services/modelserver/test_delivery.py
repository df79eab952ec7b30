"""What happens to results while the blob store is away: held within bounds of time and memory."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from opentelemetry.context import Context

from libs.blobs.memory import MemoryBlobs
from libs.errors import DeadlinePassed, PermissionDenied, Unavailable
from libs.generation.attempt import FailureKind, ImageStored
from libs.generation.spec import GenerationSpec
from libs.ids import JobId
from services.modelserver.attempt import Attempt, Order
from services.modelserver.delivery import Delivery
from services.modelserver.engine.protocol import Drawing
from services.modelserver.events import Done
from services.modelserver.safety import Permissive
from tests.unit.services.modelserver.bench import TestClock

SPEC = GenerationSpec("a cat", "", "m", 16, 16, 1, 3, 2.0, 1, "euler")


class AwayBlobs(MemoryBlobs):
    """Refuses so many puts, each with the error that a test wants."""

    def __init__(self, refusals=0, error=None):
        super().__init__()
        self.refusals, self.error = refusals, error or Unavailable("The picture store did not answer.")

    async def put(self, key, data, content_type):
        if self.refusals:
            self.refusals -= 1
            raise self.error
        await super().put(key, data, content_type)


def attempt_at(number=1):
    return Attempt(Order(JobId(f"job_{number}"), 1, 1, "m@1", SPEC), Context(), lambda _attempt, _stage: None)


def drawing(images=1):
    pictures = tuple(np.full((16, 16, 3), index, np.uint8) for index in range(images))
    return Drawing(pictures, peak_memory_bytes=7, gpu_ms=5.0)


async def delivered(blobs, images=1, **bounds):
    attempt, delivery, clock = attempt_at(), None, TestClock()
    delivery = Delivery(blobs, Permissive(), clock, **bounds)
    await delivery.deliver(attempt, drawing(images))
    assert not delivery.held_up
    delivery.close()
    return [event async for event in attempt.follow()], clock


@pytest.mark.parametrize("error", [Unavailable("It is away."), DeadlinePassed("It was slow.")])
async def test_a_store_that_comes_back_in_time_gets_every_picture(error):
    blobs = AwayBlobs(5, error)
    events, _ = await delivered(blobs, images=3)
    assert sorted(event.index for event in events if isinstance(event, ImageStored)) == [0, 1, 2]
    assert events[-1] == Done(5.0, 7)


async def test_patience_ends():
    events, clock = await delivered(AwayBlobs(10**6), patience_s=100.0)
    assert (events[-1].kind, events[-1].reason, events[-1].gpu_ms) == (FailureKind.TRANSIENT, "UNAVAILABLE", 5.0)
    assert 100 <= clock.seconds < 120


async def test_a_refusal_is_not_tried_again():
    blobs = AwayBlobs(2, PermissionDenied("Not with this key."))
    events, _ = await delivered(blobs)
    assert events[-1].reason == "SCOPE_MISSING"
    assert blobs.refusals == 1


async def test_what_does_not_fit_into_the_spool_fails_at_once():
    events, clock = await delivered(AwayBlobs(10**6), spool_bytes=10)
    assert events[-1].reason == "UNAVAILABLE"
    assert clock.seconds == 0


async def test_what_was_drawn_counts_also_when_its_delivery_breaks(monkeypatch):
    attempt, ended = attempt_at(), asyncio.Event()
    delivery = Delivery(AwayBlobs(0), Permissive(), TestClock())
    delivery.on_end = lambda _attempt: ended.set()

    async def broken(_attempt, _drawing):
        raise RuntimeError("a test")

    monkeypatch.setattr(delivery, "deliver", broken)
    delivery.send(attempt, drawing())
    async with asyncio.timeout(5):
        await ended.wait()
    assert (attempt.outcome.reason, attempt.outcome.gpu_ms) == ("INTERNAL", 5.0)
    delivery.close()


async def test_whoever_leaves_does_not_wait_for_the_store(monkeypatch):
    attempt, clock = attempt_at(), TestClock()
    delivery = Delivery(AwayBlobs(10**6), Permissive(), clock)
    ended, held = asyncio.Event(), asyncio.Event()
    delivery.on_end, delivery.on_change = lambda _attempt: ended.set(), held.set
    monkeypatch.setattr(clock, "sleep", lambda _seconds: asyncio.Event().wait())
    delivery.send(attempt, drawing())
    async with asyncio.timeout(5):
        await held.wait()
        assert delivery.held_up
        assert delivery.busy
        delivery.hand_back()
        await ended.wait()
    assert attempt.outcome.kind is FailureKind.DRAINING
    assert not delivery.busy
    delivery.close()
