"""Prepaid money: held before the work, paid with the usage row, on SQLite and PostgreSQL."""

from __future__ import annotations

import asyncio

import pytest

from libs.ids import JobId, KeyId, TenantId
from services.ratelimiter.balances.reservation import Hold
from services.ratelimiter.sql_database import Database
from services.ratelimiter.tenants.sql_wallets import SqlWallets
from services.ratelimiter.tenants.wallets import Credit, Lack, Wallet, month_of, next_month_s
from services.ratelimiter.usage.book import Settlement, UsageRow
from services.ratelimiter.usage.sql_book import SqlUsage

NOW_S = 1_700_000_000.0  # 2023-11-14
ACME = TenantId("acme")
JOB = JobId("job_1")


@pytest.fixture
def wallets(database: Database) -> SqlWallets:
    return SqlWallets(database)


@pytest.fixture
def usage(database: Database) -> SqlUsage:
    return SqlUsage(database)


def paid(micros: int, job: JobId = JOB, settled_s: float = NOW_S) -> UsageRow:
    hold = Hold(job, ACME, "payg", units=100.0)
    settlement = Settlement(hold, KeyId(""), "tiny@1", "succeeded", 100.0, 100.0, gpu_ms=100.0, images=1)
    return UsageRow(settlement, settled_s, None, micros=micros)


async def test_a_tenant_that_never_paid_has_nothing(wallets: SqlWallets):
    assert await wallets.find(ACME, NOW_S) == Wallet(ACME)
    lacking = await wallets.hold(ACME, JOB, 1, NOW_S)
    assert lacking is not None
    assert lacking.lack(1) is Lack.BALANCE


async def test_a_payment_counts_once(wallets: SqlWallets):
    made = [await wallets.credit(Credit("pay_1", ACME, 500, "invoice 7"), NOW_S) for _ in range(2)]
    assert made == [Wallet(ACME, balance_micros=500)] * 2
    assert (await wallets.credit(Credit("pay_2", ACME, -100), NOW_S)).balance_micros == 400


async def test_of_many_at_once_as_many_are_held_as_there_is_money_for(wallets: SqlWallets):
    await wallets.credit(Credit("pay_1", ACME, 1000), NOW_S)
    answers = await asyncio.gather(*(wallets.hold(ACME, JobId(f"job_{n}"), 150, NOW_S) for n in range(12)))
    assert sum(answer is None for answer in answers) == 6
    assert await wallets.find(ACME, NOW_S) == Wallet(ACME, 1000, held_micros=900)


async def test_a_hold_is_taken_once_and_given_back_once(wallets: SqlWallets):
    await wallets.credit(Credit("pay_1", ACME, 1000), NOW_S)
    assert [await wallets.hold(ACME, JOB, 600, NOW_S) for _ in range(2)] == [None, None]
    for _ in range(2):
        await wallets.release(JOB)
    assert await wallets.find(ACME, NOW_S) == Wallet(ACME, 1000)


async def test_a_settlement_pays_once_in_the_place_of_what_was_held(wallets: SqlWallets, usage: SqlUsage):
    await wallets.credit(Credit("pay_1", ACME, 1000), NOW_S)
    await wallets.hold(ACME, JOB, 600, NOW_S)
    await wallets.confirm(ACME, JOB, 600, NOW_S)
    assert [await usage.record(paid(450)) for _ in range(2)] == [True, False]
    assert await wallets.find(ACME, NOW_S) == Wallet(ACME, 550, spent_micros=450)
    await wallets.confirm(ACME, JOB, 600, NOW_S)  # late: the usage row says that it is over
    assert (await wallets.find(ACME, NOW_S)).held_micros == 0


async def test_what_nobody_confirms_comes_back_and_what_stands_stays(wallets: SqlWallets):
    await wallets.credit(Credit("pay_1", ACME, 1000), NOW_S)
    for name in ("lost", "stands", "young"):
        await wallets.hold(ACME, JobId(name), 100, NOW_S + (60 if name == "young" else 0))
    await wallets.confirm(ACME, JobId("stands"), 100, NOW_S)
    await wallets.release(JobId("stands"))
    assert await wallets.sweep(NOW_S + 30) == 1
    assert (await wallets.find(ACME, NOW_S)).held_micros == 200
    await wallets.confirm(ACME, JobId("lost"), 100, NOW_S + 31)  # its job is durable after all
    assert (await wallets.find(ACME, NOW_S)).held_micros == 300


async def test_a_cap_binds_within_its_month_and_not_in_the_next(wallets: SqlWallets, usage: SqlUsage):
    await wallets.credit(Credit("pay_1", ACME, 10_000), NOW_S)
    await wallets.cap(ACME, 500, NOW_S)
    await usage.record(paid(450))
    lacking = await wallets.hold(ACME, JobId("job_2"), 100, NOW_S)
    assert lacking == Wallet(ACME, 9550, spent_micros=450, cap_micros=500)
    assert lacking.lack(100) is Lack.CAP
    assert await wallets.hold(ACME, JobId("job_3"), 50, NOW_S) is None
    later_s = NOW_S + next_month_s(NOW_S)
    assert await wallets.hold(ACME, JobId("job_4"), 400, later_s) is None
    assert (await wallets.find(ACME, later_s)).spent_micros == 0
    assert (await wallets.cap(ACME, None, later_s)).cap_micros is None


async def test_a_charge_without_a_hold_is_paid_all_the_same(wallets: SqlWallets, usage: SqlUsage):
    await usage.record(paid(30))
    assert await wallets.find(ACME, NOW_S) == Wallet(ACME, -30, spent_micros=30)


def test_months_are_those_of_utc():
    assert (month_of(NOW_S), month_of(NOW_S + next_month_s(NOW_S))) == (202311, 202312)
    new_year_s = NOW_S + next_month_s(NOW_S + 20 * 86_400) + 20 * 86_400
    assert month_of(new_year_s) == 202401
    assert month_of(new_year_s - 1) == 202312
