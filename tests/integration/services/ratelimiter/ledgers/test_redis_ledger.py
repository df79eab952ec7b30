"""The ledger in Redis where it is more than its contract: time, what is kept for how long, rivals, and a loss."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial

import pytest

from libs.ids import JobId, TenantId
from libs.testing.redis import RedisServer
from services.ratelimiter.balances import booking
from services.ratelimiter.balances.balance import Balance
from services.ratelimiter.balances.booking import Move, Outcome, Touched
from services.ratelimiter.balances.bucket import Fill, Rate
from services.ratelimiter.balances.causes import Charge
from services.ratelimiter.balances.days import Day
from services.ratelimiter.balances.reservation import Hold, Step
from services.ratelimiter.balances.scope import AccountId, scopes_of
from services.ratelimiter.ledgers.ledger import Change, LedgerBusy
from services.ratelimiter.ledgers.redis_ledger import RedisLedger
from services.ratelimiter.ledgers.redis_line import Found, LedgerAway, LedgerLost, RedisLine, key
from services.ratelimiter.ledgers.redis_putting import putting
from services.ratelimiter.ledgers.redis_scripts import LOOK, SWAP, Script
from services.ratelimiter.tiers.policy import Limits

LIMITS = Limits("pro", requests=Rate(60, 1000), units=Rate(60, 1000), in_flight_images=1000)
TENANT, ACCOUNT = TenantId("t"), AccountId("tenant:t")


@pytest.fixture
async def server() -> AsyncIterator[RedisServer]:
    async with RedisServer() as started:
        yield started


@pytest.fixture
async def lines(server: RedisServer) -> AsyncIterator[list[RedisLine]]:
    """Lines of four processes."""
    opened = [RedisLine(server.url, deadline_s=10.0) for _ in range(4)]
    await RedisLedger(opened[0]).restore({}, 0.0)
    yield opened
    for line in opened:
        await line.close()


@pytest.fixture
def ledgers(lines: list[RedisLine]) -> list[RedisLedger]:
    return [RedisLedger(line) for line in lines]


async def step(ledger: RedisLedger, name: str, step: Step = Step.RESERVE, charge: float = 0.0) -> Outcome:
    hold = Hold(JobId(name), TENANT, "pro", 100.0, images=2)
    move = Move(step, hold, scopes_of(TENANT, LIMITS), Charge(charge))
    return await ledger.transact(move.touched, partial(_apply, move))


def _apply(move: Move, held: booking.Booking, now_s: float) -> Outcome:
    return booking.apply(held, move, now_s)


async def ttl_s(line: RedisLine, *parts: str) -> float:
    (left_ms,) = await line.command(("PTTL", key(*parts)))
    return left_ms / 1000


async def test_rivals_on_one_redis_admit_exactly_what_fits(ledgers: list[RedisLedger]):
    asked = (step(ledgers[n % 4], f"job_{n}") for n in range(60))
    outcomes = await asyncio.gather(*asked)
    assert sum(outcome.denial is None for outcome in outcomes) == 10


async def test_one_step_asked_of_all_at_once_is_done_once(ledgers: list[RedisLedger]):
    reserved = await asyncio.gather(*(step(ledger, "job") for ledger in ledgers for _ in range(5)))
    assert sum(outcome.applied for outcome in reserved) == 1
    settled = await asyncio.gather(*(step(ledger, "job", Step.SETTLE, 70) for ledger in ledgers for _ in range(5)))
    assert sum(outcome.applied for outcome in settled) == 1


async def test_time_is_that_of_redis(ledgers: list[RedisLedger], lines: list[RedisLine]):
    (before,) = await lines[0].command(("TIME",))
    outcome = await step(ledgers[0], "job")
    (after,) = await lines[0].command(("TIME",))
    assert int(before[0]) <= outcome.now_s <= int(after[0]) + 1


async def test_nothing_is_kept_for_ever(ledgers: list[RedisLedger], lines: list[RedisLine]):
    place = ("reservation", TENANT, "job")
    await step(ledgers[0], "job")
    assert 23 * 3600 < await ttl_s(lines[0], *place) < 25 * 3600
    assert [hold.reservation_id for hold in await ledgers[0].unconfirmed(-1)] == ["job"]
    await step(ledgers[0], "job", Step.CONFIRM)
    assert 7 * 86_400 < await ttl_s(lines[0], *place) < 9 * 86_400
    await step(ledgers[0], "job", Step.SETTLE, 100)
    assert 600 < await ttl_s(lines[0], *place) < 1000
    assert 90 < await ttl_s(lines[0], "account", ACCOUNT) <= 86_402  # until all has drained and the day is over
    assert await ledgers[0].unconfirmed(-1) == []
    keys = (await lines[0].command(("KEYS", "*")))[0]
    assert {each.decode().split("\n")[0] for each in keys} == {
        "{darkroom}:epoch",
        "{darkroom}:alive",
        "{darkroom}:restored",
        "{darkroom}:account",
        "{darkroom}:reservation",
    }


async def test_after_a_loss_nobody_decides_until_it_is_put_together(
    server: RedisServer, ledgers: list[RedisLedger], lines: list[RedisLine]
):
    await step(ledgers[0], "job")
    await lines[0].command(("FLUSHALL",))
    for ledger in ledgers:
        with pytest.raises(LedgerLost):
            await step(ledger, "job_2")
    now_s = float((await lines[0].command(("TIME",)))[0][0])
    known = Balance(units=Fill(950, now_s), day=Day(int(now_s // 86_400), images=7), empty_from_s=now_s + 1000)
    await ledgers[0].restore({ACCOUNT: known}, now_s)
    assert (await step(ledgers[1], "job_2")).denial is not None
    assert (await step(ledgers[2], "job", Step.SETTLE, 10)).booking.balances[ACCOUNT].day.images == 9


async def test_a_server_that_came_back_with_its_file_is_taken_as_it_is(server: RedisServer, ledgers: list[RedisLedger]):
    await step(ledgers[0], "job")
    await ledgers[0].forget(0)  # as every second: it lived
    await server.restart()
    with pytest.raises(LedgerAway):  # the connection that broke
        await step(ledgers[0], "job_2")
    with pytest.raises(LedgerLost):
        await step(ledgers[0], "job_2")
    before_s = await ledgers[0].adopt()
    assert before_s is not None
    outcome = await step(ledgers[0], "job", Step.SETTLE, 40)
    assert outcome.applied
    assert 0 <= outcome.now_s - before_s < 60
    assert outcome.booking.balances[ACCOUNT].day.images == 2


async def test_an_emptied_server_has_nothing_to_take(ledgers: list[RedisLedger], lines: list[RedisLine]):
    await lines[0].command(("FLUSHALL",))
    assert await ledgers[0].adopt() is None
    with pytest.raises(LedgerLost):
        await step(ledgers[0], "job")


async def test_one_process_at_a_time_puts_it_together(ledgers: list[RedisLedger], lines: list[RedisLine]):
    await lines[0].command(("FLUSHALL",), ("SET", key("restoring"), "1"))
    with pytest.raises(LedgerAway) as caught:
        await ledgers[0].restore({}, 0.0)
    assert caught.value.metadata["how"] == "another process puts it together again"
    assert not isinstance(caught.value, LedgerLost)


async def test_who_comes_back_late_to_its_turn_writes_nothing(ledgers: list[RedisLedger], lines: list[RedisLine]):
    await lines[0].command(("FLUSHALL",))
    async with putting(lines[0]) as late:
        await late.write((key("part"), "1", 0))
        await lines[1].command(("DEL", key("restoring")))  # as its time does
        async with putting(lines[1]):
            with pytest.raises(LedgerAway, match="does not answer"):
                await late.write((key("part"), "2", 0))
            await late.end()  # not its own
            with pytest.raises(LedgerAway):
                await ledgers[2].restore({}, 0.0)
        await ledgers[2].restore({}, 17.5)
        with pytest.raises(LedgerAway):
            await late.declare()
    assert await lines[0].command(("GET", key("part"))) == [b"1"]
    assert await ledgers[0].restored_s() == 17.5


async def test_it_says_when_it_was_put_together(ledgers: list[RedisLedger], lines: list[RedisLine]):
    assert await ledgers[0].restored_s() == 0.0
    await lines[0].command(("FLUSHALL",))
    with pytest.raises(LedgerLost):
        await ledgers[1].restored_s()
    await ledgers[1].restore({}, 17.5)
    assert await ledgers[0].restored_s() == 17.5


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[Script]:
    """The scripts that run."""
    ran: list[Script] = []
    run = RedisLine.run

    async def recorded(line: RedisLine, script: Script, *words) -> Found:
        ran.append(script)
        return await run(line, script, *words)

    monkeypatch.setattr(RedisLine, "run", recorded)
    return ran


async def test_what_was_seen_last_saves_the_look_and_nobody_is_refused_by_it(
    ledgers: list[RedisLedger], ran: list[Script]
):
    one, other = ledgers[:2]
    for n in range(4):
        await step(one, f"job_{n}")
    assert ran == [LOOK, SWAP, SWAP, SWAP, SWAP]  # a first look for the time
    for n in range(4, 9):
        await step(other, f"job_{n}")
    ran.clear()
    assert (await step(one, "job_9")).denial is None  # it saw four of nine, and is told the rest
    assert ran == [SWAP, SWAP]
    assert (await step(other, "job_10")).denial is not None  # it guessed that the tenth fits
    for n in range(9):
        await step(one, f"job_{n}", Step.RELEASE)
    ran.clear()
    assert (await step(other, "job_11")).denial is None  # all it knows is that nothing fits
    assert ran == [LOOK, SWAP]


def many(callers: int) -> list[tuple[Touched, Change]]:
    moves = []
    for number in range(callers):
        hold = Hold(JobId("job"), TenantId(f"tenant_{number}"), "pro", 100.0, images=2)
        moves.append(Move(Step.RESERVE, hold, scopes_of(hold.tenant_id, LIMITS)))
    return [(move.touched, partial(_apply, move)) for move in moves]


async def test_changes_of_many_callers_are_one_look_and_one_write(ledgers: list[RedisLedger], ran: list[Script]):
    outcomes = await ledgers[0].transact_all(many(50))
    assert sum(outcome.applied for outcome in outcomes) == 50
    assert ran == [LOOK, SWAP]
    again = await ledgers[1].transact_all(many(50))
    assert not any(outcome.applied for outcome in again)
    assert ran == [LOOK, SWAP, LOOK]


async def test_where_others_are_in_the_way_again_and_again_each_is_changed_by_itself(
    ledgers: list[RedisLedger], ran: list[Script], monkeypatch: pytest.MonkeyPatch
):
    one, other = ledgers[:2]
    swap, rivals = one._swap, iter(range(1000))

    async def too_late(read, documents) -> Found:
        if len(read) > 2:  # of several callers: somebody takes something from one of them at every try
            hold = Hold(JobId(f"rival_{next(rivals)}"), TenantId("tenant_1"), "pro", 1.0)
            move = Move(Step.RESERVE, hold, scopes_of(hold.tenant_id, LIMITS))
            await other.transact(move.touched, partial(_apply, move))
        return await swap(read, documents)

    monkeypatch.setattr(one, "_swap", too_late)
    outcomes = await one.transact_all(many(3))
    assert [outcome.applied for outcome in outcomes] == [True] * 3
    assert next(rivals) == 3
    held, _ = await one.read(Touched(TenantId("tenant_1"), (AccountId("tenant:tenant_1"),)))
    assert held.balances[AccountId("tenant:tenant_1")].day.units == 103


async def test_of_several_callers_only_who_asks_too_much_at_once_is_left_out(
    ledgers: list[RedisLedger], monkeypatch: pytest.MonkeyPatch
):
    ledger = ledgers[0]
    transact, busy, lost = ledger.transact, {TenantId("tenant_1")}, set[TenantId]()

    async def transacted(touched: Touched, change: Change) -> Outcome:
        if touched.tenant_id in lost:
            raise LedgerAway.because("a test")
        if touched.tenant_id in busy:
            raise LedgerBusy.now()
        return await transact(touched, change)

    async def never(_changes) -> None:
        return None

    monkeypatch.setattr(ledger, "transact", transacted)
    monkeypatch.setattr(ledger, "_together", never)
    outcomes = await ledger.transact_all(many(3))
    assert [outcome.applied for outcome in outcomes] == [True, True]
    lost.add(TenantId("tenant_2"))
    with pytest.raises(LedgerAway):
        await ledger.transact_all(many(3))
