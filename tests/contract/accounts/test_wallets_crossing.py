"""Money of jobs whose confirmation, settlement and time limit come at once: whoever is second sees what the first did."""

from __future__ import annotations

import asyncio

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


async def _waits(database: Database, how_many: int) -> bool:
    """Whether so many transactions wait; asked in another one each time, for one sees the same again and again."""
    return bool(await database.read(lambda within: within.scalar(WAITING)) == how_many)
