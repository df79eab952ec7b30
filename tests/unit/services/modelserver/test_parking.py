"""Attempts that are taken off the device and go on later, and who is told what of it."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from libs.generation.attempt import FailureKind, ImageStored
from libs.ids import JobId
from services.modelserver.events import Done
from tests.unit.services.modelserver.bench import SPEC, Bench


@pytest.fixture
async def bench():
    made = Bench()
    yield made
    await made.close()


async def asked_to_park(bench, key):
    """Ask while the device stands at a shut gate; what it answers comes once the gate is open."""
    parking = asyncio.create_task(bench.attempts.park(key, 1))
    for _ in range(3):  # until the question lies before the device
        await asyncio.sleep(0)
    return parking


async def test_a_parked_attempt_gives_its_place_to_another_and_goes_on_later(bench):
    spec = replace(SPEC, steps=50)
    alone = [event for event in await bench.events(bench.take("job_0", spec=spec)) if isinstance(event, ImageStored)]
    bench.gate.clear()
    first = bench.take("job_1", spec=spec)
    await bench.draws()
    parking = await asked_to_park(bench, first.order.key)
    bench.gate.set()
    assert await parking
    assert not await bench.attempts.park(first.order.key, 1)
    assert bench.worker.rows_in_use == 0
    assert isinstance(await bench.outcome(bench.take("job_2")), Done)
    assert first.outcome is None
    bench.gate.clear()  # it must not end before it is known that it goes on
    assert await bench.attempts.resume(first.order.key, 1)
    assert not await bench.attempts.resume(first.order.key, 1)
    bench.gate.set()
    again = [event for event in await bench.events(first) if isinstance(event, ImageStored)]
    assert [image.sha256 for image in again] == [image.sha256 for image in alone]
    assert not await bench.attempts.park((JobId("job_9"), 1), 1)


async def test_what_is_parked_and_followed_by_nobody_ends_after_five_minutes(bench):
    attempts = {}
    for name in ("followed", "left"):
        bench.gate.clear()
        attempts[name] = bench.take(name, spec=replace(SPEC, steps=50))
        await bench.draws()
        parking = await asked_to_park(bench, attempts[name].order.key)
        bench.gate.set()
        assert await parking
    following = asyncio.create_task(bench.outcome(attempts["followed"]))
    await asyncio.sleep(0)
    for _ in range(2):
        await bench.outcome(bench.take("other", attempt=1 + int(bench.clock.seconds)))
        bench.clock.seconds += 301.0
    assert await bench.outcome(bench.take("another"))
    assert (await bench.outcome(attempts["left"])).kind is FailureKind.CANCELLED
    assert attempts["followed"].outcome is None
    bench.gate.clear()  # it must not end before it is known that it goes on
    assert await bench.attempts.resume(attempts["followed"].order.key, 1)
    bench.gate.set()
    assert isinstance(await following, Done)


async def test_an_attempt_is_parked_although_its_asker_went_away(bench):
    bench.gate.clear()
    bench.take(spec=replace(SPEC, steps=50))
    await bench.draws()
    parking = await asked_to_park(bench, (JobId("job_1"), 1))
    parking.cancel()
    bench.gate.set()
    await bench.until(lambda: (bench.worker.rows_in_use, bench.worker.held) == (0, 1))


async def test_what_ended_before_its_asker_knew_that_it_goes_on_was_not_resumed(bench, monkeypatch):
    bench.gate.clear()
    attempt = bench.take(spec=replace(SPEC, steps=50))
    await bench.draws()
    parking = await asked_to_park(bench, attempt.order.key)
    bench.gate.set()
    assert await parking
    ask = bench.worker.device.ask

    async def answered_late(question):
        answer = await ask(question)
        await bench.until(lambda: not bench.worker.held)
        return answer

    monkeypatch.setattr(bench.worker.device, "ask", answered_late)
    assert not await bench.attempts.resume(attempt.order.key, 1)
