"""Money of jobs whose confirmation, settlement and time limit come at once: whoever is second sees what the first did."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from libs.devstack.postgres import PostgresServer
from libs.ids import JobId
from libs.testing.waiting import until
from services.ratelimiter import schema
from services.ratelimiter.sql_database import Database
from services.ratelimiter.tenants.sql_wallets import SqlWallets
from services.ratelimiter.tenants.wallets import Credit, Wallet
from services.ratelimiter.usage.sql_book import SqlUsage
from tests.contract.accounts.test_wallets import ACME, JOB, NOW_S, paid

PATIENT_S = 30.0
WAITING = text("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'")


@pytest.fixture
async def wallets(database: Database) -> SqlWallets:
    """Wallets with money in one, and a job whose hold was given back because its confirmation is late."""
    opened = SqlWallets(database)
    await opened.credit(Credit("pay_1", ACME, 1000), NOW_S)
    await opened.hold(ACME, JOB, 600, NOW_S)
    await opened.sweep(NOW_S + 60)
    return opened


@pytest.mark.parametrize("charge", [0, 450])
async def test_nothing_stays_held_for_a_job_that_is_settled_while_it_is_confirmed(
    database: Database, server: PostgresServer | None, wallets: SqlWallets, charge: int
):
    rows = schema.build().tables["wallets"]
    usage = SqlUsage(database)

    async def while_the_wallet_is_kept(within: AsyncConnection) -> list[asyncio.Task[object]]:
        await within.execute(select(rows).with_for_update())
        confirming = asyncio.create_task(wallets.confirm(ACME, JOB, 600, NOW_S))
        await until(lambda: _waits(database, 1), PATIENT_S)
        settling = asyncio.create_task(usage.record(paid(charge)))

        async def settled_or_waits() -> bool:
            return settling.done() or await _waits(database, 2)

        await until(settled_or_waits, PATIENT_S)
        return [confirming, settling]

    if server is None:  # a file has one writer, and nobody can be kept half way
        await asyncio.gather(wallets.confirm(ACME, JOB, 600, NOW_S), usage.record(paid(charge)))
    else:
        await asyncio.gather(*await database.write(while_the_wallet_is_kept))
    assert await wallets.find(ACME, NOW_S) == Wallet(ACME, 1000 - charge, spent_micros=charge)


async def test_what_was_given_back_is_held_again_once_however_often_it_is_confirmed(wallets: SqlWallets):
    await asyncio.gather(*(wallets.confirm(ACME, JOB, 600, NOW_S) for _ in range(6)))
    assert (await wallets.find(ACME, NOW_S)).held_micros == 600


async def test_a_late_repetition_of_a_settled_job_holds_nothing_for_good(database: Database, wallets: SqlWallets):
    await SqlUsage(database).record(paid(450))
    assert await wallets.hold(ACME, JOB, 100, NOW_S) is None
    await wallets.confirm(ACME, JOB, 100, NOW_S)
    assert await wallets.sweep(NOW_S + 60) == 1
    assert (await wallets.find(ACME, NOW_S)).held_micros == 0


async def test_confirmations_settlements_and_sweeps_of_many_jobs_do_not_wait_for_each_other_for_ever(
    database: Database, wallets: SqlWallets
):
    usage, jobs = SqlUsage(database), [JobId(f"job_{number}") for number in range(2, 26)]
    for job in jobs:
        await wallets.hold(ACME, job, 10, NOW_S)
    confirming = [wallets.confirm(ACME, job, 10, NOW_S) for job in jobs]
    settling = [usage.record(paid(10, job)) for job in jobs]
    await asyncio.gather(*settling, wallets.sweep(NOW_S + 60), *confirming, wallets.sweep(NOW_S + 60))
    spent = 10 * len(jobs)
    assert await wallets.find(ACME, NOW_S) == Wallet(ACME, 1000 - spent, spent_micros=spent)


async def test_what_is_confirmed_while_sweeps_give_back_is_held_whoever_comes_first(
    database: Database, wallets: SqlWallets
):
    jobs = [JobId(f"job_{number}") for number in range(2, 62)]
    for job in jobs:
        await wallets.hold(ACME, job, 10, NOW_S)
    confirming = [wallets.confirm(ACME, job, 10, NOW_S) for job in jobs]
    releasing = [wallets.release(job) for job in jobs[::7]]
    await asyncio.gather(*confirming[:20], wallets.sweep(NOW_S + 60), *releasing, *confirming[20:])
    assert await wallets.find(ACME, NOW_S) == Wallet(ACME, 1000, held_micros=10 * len(jobs))


async def test_what_is_given_back_under_a_confirmation_that_found_it_is_held_again(
    database: Database, server: PostgresServer | None
):
    wallets = SqlWallets(database)
    await wallets.credit(Credit("pay_1", ACME, 1000), NOW_S)
    await wallets.hold(ACME, JOB, 600, NOW_S)

    async def give_back(within: AsyncConnection) -> asyncio.Task[None]:
        await wallets._give_back(within, wallets._holds.c.reservation_id == JOB)
        confirming = asyncio.create_task(wallets.confirm(ACME, JOB, 600, NOW_S))
        await until(lambda: _waits(database, 1), PATIENT_S)
        return confirming

    if server is None:
        await asyncio.gather(wallets.release(JOB), wallets.confirm(ACME, JOB, 600, NOW_S))
    else:
        await (await database.write(give_back))
    assert await wallets.find(ACME, NOW_S) == Wallet(ACME, 1000, held_micros=600)


class Seeing(SqlWallets):
    """Says when it saw that a hold is there already, and goes on when it is let."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.seen, self.on = asyncio.Event(), asyncio.Event()

    async def _note(self, *asked: Any, confirmed: bool = False) -> bool:
        made = await super()._note(*asked, confirmed=confirmed)
        if confirmed and not made:
            self.seen.set()
            await self.on.wait()
        return made


async def test_a_hold_that_a_confirmation_saw_is_confirmed_or_held_again(
    database: Database, server: PostgresServer | None
):
    if server is None:
        pytest.skip("a file has one writer, and nobody can be kept half way")
    wallets = Seeing(database)
    await wallets.credit(Credit("pay_1", ACME, 1000), NOW_S)
    await wallets.hold(ACME, JOB, 600, NOW_S)
    confirming = asyncio.create_task(wallets.confirm(ACME, JOB, 600, NOW_S))
    seeing = asyncio.create_task(wallets.seen.wait())
    await asyncio.wait([confirming, seeing], return_when=asyncio.FIRST_COMPLETED)
    await wallets.release(JOB)
    wallets.on.set()
    wallets.seen.set()
    await asyncio.gather(confirming, seeing)
    assert (await wallets.find(ACME, NOW_S)).held_micros == 600


async def _waits(database: Database, how_many: int) -> bool:
    """Whether so many transactions wait; asked in another one each time, for one sees the same again and again."""
    return bool(await database.read(lambda within: within.scalar(WAITING)) == how_many)
