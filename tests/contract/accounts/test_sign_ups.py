"""Invites and accounts by address: the same promises on SQLite and PostgreSQL."""

from __future__ import annotations

import asyncio

import pytest

from libs.ids import KeyId, TenantId
from services.ratelimiter.keys.accounts import KeptKey, Key
from services.ratelimiter.keys.sign_up import MOST_A_DAY, MOST_AROUND, Invite, Outcome
from services.ratelimiter.keys.sql_accounts import SqlAccounts
from services.ratelimiter.keys.sql_sign_ups import SqlSignUps
from services.ratelimiter.sql_database import Database

NOW_S, DAY = 1_700_000_000.0, 19_675
CODE = b"c" * 32


@pytest.fixture
def sign_ups(database: Database) -> SqlSignUps:
    return SqlSignUps(database)


def kept(number: int) -> KeptKey:
    tenant = TenantId(f"acct_{number}")
    return KeptKey(Key(KeyId(f"key_{number}"), tenant, "free", "dk_x", "", NOW_S), bytes([number]) * 32)


async def test_an_address_gets_its_accounts_of_the_day_however_many_ask_at_once(
    sign_ups: SqlSignUps, database: Database
):
    asked = (sign_ups.open(kept(number), "198.51.100.1", DAY, None) for number in range(8))
    outcomes = await asyncio.gather(*asked)
    assert sorted(outcome.name for outcome in outcomes) == ["MADE"] * MOST_A_DAY + ["TOO_MANY"] * (8 - MOST_A_DAY)
    assert len(await SqlAccounts(database).list(None)) == MOST_A_DAY
    assert await sign_ups.open(kept(20), "198.51.100.2", DAY, None) is Outcome.MADE
    assert await sign_ups.open(kept(21), "198.51.100.1", DAY + 1, None) is Outcome.MADE


async def test_an_invite_makes_as_many_accounts_as_it_says(sign_ups: SqlSignUps, database: Database):
    await sign_ups.invite(Invite(CODE, 2, NOW_S, None))
    asked = (sign_ups.open(kept(number), f"198.51.100.{number}", DAY, CODE) for number in range(5))
    outcomes = await asyncio.gather(*asked)
    assert sorted(outcome.name for outcome in outcomes) == ["MADE"] * 2 + ["NO_INVITE"] * 3
    assert len(await SqlAccounts(database).list(None)) == 2


async def test_what_is_refused_uses_nothing_up(sign_ups: SqlSignUps):
    await sign_ups.invite(Invite(CODE, 1, NOW_S, None))
    for number in range(MOST_A_DAY):
        await sign_ups.open(kept(number), "198.51.100.1", DAY, None)
    assert await sign_ups.open(kept(10), "198.51.100.1", DAY, CODE) is Outcome.TOO_MANY  # the use came back
    for _ in range(5):
        assert await sign_ups.open(kept(11), "198.51.100.2", DAY, b"x" * 32) is Outcome.NO_INVITE
    assert await sign_ups.open(kept(12), "198.51.100.2", DAY, CODE) is Outcome.MADE


async def test_an_invite_ends(sign_ups: SqlSignUps):
    await sign_ups.invite(Invite(CODE, 5, NOW_S - 10, NOW_S))
    assert await sign_ups.open(kept(1), "198.51.100.1", DAY, CODE) is Outcome.NO_INVITE


async def test_the_ipv6_network_around_addresses_gets_its_accounts_of_the_day(sign_ups: SqlSignUps):
    outcomes = [await sign_ups.open(kept(number), f"home{number // 2}@net", DAY, None) for number in range(14)]
    assert outcomes == [Outcome.MADE] * MOST_AROUND + [Outcome.TOO_MANY_AROUND] * (14 - MOST_AROUND)
    assert await sign_ups.open(kept(20), "home1@other", DAY, None) is Outcome.MADE
    assert await sign_ups.open(kept(21), "home1@net", DAY + 1, None) is Outcome.MADE
