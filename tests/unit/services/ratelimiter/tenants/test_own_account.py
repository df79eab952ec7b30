"""Whoever reads much of their own keeps nobody waiting who only wants in."""

from __future__ import annotations

import asyncio
from typing import Any

from services.ratelimiter.tenants.own_account import OwnAccount
from services.ratelimiter.usage.reports import Part, UsageQuery

QUERY = UsageQuery((Part.DAY,), tenant_id="acme")


class SlowReports:
    """Answers when it is told to, and counts who waits for it."""

    def __init__(self) -> None:
        self.asked, self.may_answer, self.reached = 0, asyncio.Event(), asyncio.Event()

    async def page(self, *_: Any) -> list[Any]:
        self.asked += 1
        self.reached.set()
        await self.may_answer.wait()
        return []


async def test_two_pages_are_read_at_once_and_others_wait_their_turn():
    reports = SlowReports()
    own = OwnAccount(*[None] * 3, reports, None, None)  # type: ignore[arg-type,call-arg]
    reading = [asyncio.create_task(own.usage(QUERY, (), 9)) for _ in range(5)]
    await reports.reached.wait()
    for _ in range(10):
        await asyncio.sleep(0)
    assert reports.asked == 2
    reports.may_answer.set()
    assert await asyncio.gather(*reading) == [([], False)] * 5
    assert reports.asked == 5


async def test_who_leaves_gives_the_turn_to_the_next():
    reports = SlowReports()
    own = OwnAccount(*[None] * 3, reports, None, None)  # type: ignore[arg-type,call-arg]
    reading = [asyncio.create_task(own.usage(QUERY, (), 9)) for _ in range(3)]
    await reports.reached.wait()
    for task in reading[:2]:
        task.cancel()
    await asyncio.gather(*reading[:2], return_exceptions=True)
    reports.may_answer.set()
    assert await reading[2] == ([], False)
