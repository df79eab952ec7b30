"""Whose turn it is: nobody's wait is taken for the silence of Redis, and silence is found out once."""

from __future__ import annotations

import asyncio

import pytest

from libs.ids import TenantId
from services.ratelimiter.ledgers.ledger import LedgerBusy
from services.ratelimiter.ledgers.redis_line import LedgerAway
from services.ratelimiter.ledgers.turns import Turns

TENANT, OTHER = TenantId("t"), TenantId("o")
_LONG_S = 60.0


async def ask(turns: Turns, tenant: TenantId = TENANT) -> None:
    async with turns.of(tenant):
        pass


async def test_who_waits_too_long_is_told_so_and_others_do_not_wait():
    turns = Turns(patience_s=0.0)
    async with turns.of(TENANT):
        with pytest.raises(LedgerBusy, match="Too many calls of one tenant"):
            await ask(turns)
        await ask(turns, OTHER)
    await ask(turns)


async def test_more_than_can_have_their_turn_are_refused_at_once():
    turns = Turns(_LONG_S)
    async with turns.of(TENANT):
        asked = [asyncio.create_task(ask(turns)) for _ in range(300)]
        done, waiting = await asyncio.wait(asked, return_when=asyncio.FIRST_EXCEPTION)
        assert {type(each.exception()) for each in done} == {LedgerBusy}
        assert (len(done), len(waiting)) == (44, 256)
    await asyncio.gather(*waiting)


async def test_who_waits_behind_a_call_without_an_answer_has_none_either_and_the_next_asks_again():
    turns, asked = Turns(_LONG_S), asyncio.Event()

    async def unanswered() -> None:
        async with turns.of(TENANT):
            await asked.wait()
            raise LedgerAway.because("a test", exchange=7)

    calls = [asyncio.create_task(each) for each in (unanswered(), ask(turns), ask(turns))]
    await asyncio.sleep(0)
    asked.set()
    failed = await asyncio.gather(*calls, return_exceptions=True)
    assert [each.exchange for each in failed if isinstance(each, LedgerAway)] == [7, 7, 7]
    await ask(turns)
