"""Alarms ring once, at the moment at the latest, and forget what they are told to forget."""

from __future__ import annotations

import asyncio

from libs.alarm import Alarm
from libs.testing.clock import ManualClock


async def test_a_ring_is_kept_and_a_moment_comes_without_one() -> None:
    clock = ManualClock()
    alarm, start = Alarm(clock), clock.now()
    alarm.ring()
    await alarm.wait(start + 5.0)
    waiting = asyncio.create_task(alarm.wait(start + 5.0))
    await clock.advance(4.9)
    assert not waiting.done()
    await clock.advance(0.2)
    assert waiting.done()


async def test_a_ring_ends_a_wait_and_its_moment_rings_no_more() -> None:
    clock = ManualClock()
    alarm = Alarm(clock)
    waiting = asyncio.create_task(alarm.wait(clock.now() + 5.0))
    await clock.settle()
    alarm.ring()
    await waiting
    again = asyncio.create_task(alarm.wait())
    await clock.advance(10.0)
    assert not again.done()
    again.cancel()


async def test_a_ring_that_was_stilled_wakes_nobody() -> None:
    clock = ManualClock()
    alarm = Alarm(clock)
    alarm.ring()
    alarm.still()
    waiting = asyncio.create_task(alarm.wait())
    await clock.settle()
    assert not waiting.done()
    alarm.ring()
    await waiting
