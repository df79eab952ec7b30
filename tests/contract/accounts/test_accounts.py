"""Tenants and keys: the same promises on SQLite and PostgreSQL."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from libs.errors import NotFound, PreconditionFailed
from libs.ids import KeyId, TenantId
from libs.scopes import Scope
from services.ratelimiter.keys import sql_accounts
from services.ratelimiter.keys.accounts import KeptKey, Key
from services.ratelimiter.keys.sql_accounts import SqlAccounts
from services.ratelimiter.sql_database import Database

NOW_S = 1_700_000_000.123
ACME, OTHER = TenantId("acme"), TenantId("other")


@pytest.fixture
def accounts(database: Database) -> SqlAccounts:
    return SqlAccounts(database)


def kept(number: int, tenant: TenantId = ACME, tier: str = "pro") -> KeptKey:
    key = Key(KeyId(f"key_{number}"), tenant, tier, f"dk_{number:08}", f"name {number} – ü", NOW_S + number)
    return KeptKey(key, bytes([number]) * 32)


async def test_a_key_is_found_by_its_hash_as_it_was_added(accounts: SqlAccounts):
    await accounts.add(kept(1))
    assert await accounts.find(bytes([1]) * 32) == kept(1)
    assert await accounts.find(bytes([2]) * 32) is None


async def test_keys_are_listed_oldest_first_by_tenant_or_all(accounts: SqlAccounts):
    for number, tenant in ((3, ACME), (1, ACME), (2, OTHER)):
        await accounts.add(kept(number, tenant))
    assert [key.id for key in await accounts.list(ACME)] == ["key_1", "key_3"]
    assert [key.id for key in await accounts.list(None)] == ["key_1", "key_2", "key_3"]
    assert await accounts.list(TenantId("nobody")) == []


async def test_pages_of_keys_are_the_list_in_parts_whatever_is_of_one_moment(accounts: SqlAccounts):
    for number in range(1, 8):
        each = kept(number, OTHER if number == 4 else ACME)
        moment = replace(each.key, created_s=NOW_S + number // 3 + 0.1)
        await accounts.add(KeptKey(moment, each.digest))
    found: list[Key] = []
    while page := await accounts.page(ACME, 2, (found[-1].created_s, found[-1].id) if found else None):
        assert len(page) <= 2
        found += page
    assert [key.id for key in found] == [f"key_{number}" for number in (1, 2, 3, 5, 6, 7)]
    assert found == list(await accounts.list(ACME))
    assert await accounts.page(TenantId("nobody"), 2, None) == []


async def test_keys_are_found_by_their_ids_whoever_has_them(accounts: SqlAccounts):
    for number, tenant in ((1, ACME), (2, OTHER), (3, ACME)):
        await accounts.add(kept(number, tenant))
    await accounts.revoke(KeyId("key_2"), NOW_S)
    asked = [KeyId(f"key_{number}") for number in (1, 2, *range(10, 1008))]
    found = {key.id: key for key in await accounts.named(asked)}
    assert set(found) == {"key_1", "key_2"}
    assert (found[KeyId("key_1")], found[KeyId("key_2")].revoked_s) == (kept(1).key, NOW_S)
    assert await accounts.named([]) == []


async def test_a_tenant_keeps_its_tier_and_a_refused_key_is_not_added(accounts: SqlAccounts):
    await accounts.add(kept(1, tier="pro"))
    with pytest.raises(PreconditionFailed, match="has the tier pro, not free"):
        await accounts.add(kept(2, tier="free"))
    assert [key.id for key in await accounts.list(None)] == ["key_1"]


async def test_a_refused_key_leaves_no_tenant_behind(accounts: SqlAccounts):
    await accounts.add(kept(1))
    twin = KeptKey(kept(2, OTHER, "free").key, kept(1).digest)  # the hash is taken
    with pytest.raises(Exception, match=r"(?i)unique"):
        await accounts.add(twin)
    await accounts.add(kept(3, OTHER, "pro"))
    assert [key.tier for key in await accounts.list(OTHER)] == ["pro"]


async def test_first_keys_of_one_tenant_made_at_once_all_stand(accounts: SqlAccounts):
    await asyncio.gather(*(accounts.add(kept(number)) for number in range(1, 9)))
    assert len(await accounts.list(ACME)) == 8


async def test_a_withdrawn_key_is_still_found_and_keeps_its_first_time(accounts: SqlAccounts):
    await accounts.add(kept(1))
    assert (await accounts.revoke(KeyId("key_1"), NOW_S + 5)).revoked_s == NOW_S + 5
    assert (await accounts.revoke(KeyId("key_1"), NOW_S + 9)).revoked_s == NOW_S + 5
    found = await accounts.find(bytes([1]) * 32)
    assert found is not None
    assert found.key.revoked_s == NOW_S + 5


async def test_a_key_that_is_not_there_cannot_be_withdrawn(accounts: SqlAccounts):
    with pytest.raises(NotFound) as caught:
        await accounts.revoke(KeyId("key_9"), NOW_S)
    assert caught.value.reason == "KEY_NOT_FOUND"


async def test_the_last_use_only_moves_forward(accounts: SqlAccounts):
    await accounts.add(kept(1))
    await accounts.add(kept(2))
    await accounts.mark_used({KeyId("key_1"): NOW_S + 60, KeyId("key_2"): NOW_S + 60})
    await accounts.mark_used({KeyId("key_1"): NOW_S + 30, KeyId("key_2"): NOW_S + 90, KeyId("key_9"): NOW_S})
    assert [key.last_used_s for key in await accounts.list(ACME)] == [NOW_S + 60, NOW_S + 90]


async def test_scopes_and_the_end_of_a_key_come_back(accounts: SqlAccounts):
    limited = replace(kept(1).key, scopes=frozenset({Scope.JOBS_READ, Scope.KEYS_WRITE}), expires_s=NOW_S + 60)
    await accounts.add(KeptKey(limited, bytes([1]) * 32))
    assert await accounts.get(KeyId("key_1")) == limited
    with pytest.raises(NotFound):
        await accounts.get(KeyId("key_2"))


async def test_a_key_is_replaced_once_however_many_ask(accounts: SqlAccounts):
    await accounts.add(kept(1))
    asked = (accounts.replace(KeyId("key_1"), kept(number), NOW_S + 100) for number in range(2, 8))
    answers = await asyncio.gather(*asked, return_exceptions=True)
    (old,) = [answer for answer in answers if isinstance(answer, Key)]
    assert sum(isinstance(answer, PreconditionFailed) for answer in answers) == 5
    first, second = await accounts.list(ACME)
    assert first == old == replace(kept(1).key, expires_s=NOW_S + 100, replaced_by=second.id)


async def test_an_end_that_was_set_is_never_put_off_by_replacing(accounts: SqlAccounts):
    await accounts.add(KeptKey(replace(kept(1).key, expires_s=NOW_S + 50), bytes([1]) * 32))
    assert (await accounts.replace(KeyId("key_1"), kept(2), NOW_S + 100)).expires_s == NOW_S + 50


async def test_what_works_no_more_is_not_replaced_and_nothing_is_added(accounts: SqlAccounts):
    await accounts.add(kept(1))
    await accounts.revoke(KeyId("key_1"), NOW_S + 1)
    await accounts.add(KeptKey(replace(kept(2).key, expires_s=NOW_S + 2), bytes([2]) * 32))
    for number in (1, 2):
        with pytest.raises(PreconditionFailed, match="withdrawn" if number == 1 else "expired"):
            await accounts.replace(KeyId(f"key_{number}"), kept(3), NOW_S + 100)
    with pytest.raises(NotFound):
        await accounts.replace(KeyId("key_9"), kept(3), NOW_S + 100)
    assert [key.id for key in await accounts.list(ACME)] == ["key_1", "key_2"]


async def test_a_tenant_is_admitted_with_the_tier_it_came_with_first(accounts: SqlAccounts):
    tiers = await asyncio.gather(*(accounts.admit(OTHER, tier, NOW_S) for tier in ("pro", "free", "payg", "pro")))
    assert len(set(tiers)) == 1
    assert await accounts.admit(OTHER, "enterprise", NOW_S) == tiers[0]
    await accounts.add(kept(1, tier="enterprise"))
    assert await accounts.admit(ACME, "free", NOW_S) == "enterprise"
    assert await accounts.list(OTHER) == []


async def ended(accounts: SqlAccounts) -> None:
    """Add 1 that works, 2 that was withdrawn, 3 that expired, 4 that goes on for a while, and one of another tenant."""
    for number, tenant in ((1, ACME), (2, ACME), (3, ACME), (4, ACME), (5, OTHER)):
        ends_s = {3: NOW_S + 30, 4: NOW_S + 90}.get(number)
        await accounts.add(KeptKey(replace(kept(number, tenant).key, expires_s=ends_s), bytes([number]) * 32))
    await accounts.revoke(KeyId("key_2"), NOW_S + 20)


async def test_what_works_is_counted(accounts: SqlAccounts):
    await ended(accounts)
    counts = [await accounts.working(ACME, NOW_S + after_s) for after_s in (10, 20, 30, 90)]
    assert counts == [4, 3, 2, 1]
    await accounts.replace(KeyId("key_1"), kept(6), NOW_S + 60)
    assert await accounts.working(ACME, NOW_S + 40) == 3  # the one that was replaced works on


async def test_keys_that_ended_are_forgotten_and_no_others(accounts: SqlAccounts):
    await ended(accounts)
    assert await accounts.forget_ended(NOW_S + 20) == 0
    assert await accounts.forget_ended(NOW_S + 30) == 1
    assert [key.id for key in await accounts.list(None)] == ["key_1", "key_3", "key_4", "key_5"]
    assert await accounts.forget_ended(NOW_S + 1e9) == 2
    assert [key.id for key in await accounts.list(None)] == ["key_1", "key_5"]


async def test_a_list_is_bounded_and_never_leaves_out_what_works_for_what_does_not(
    accounts: SqlAccounts, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sql_accounts, "_LISTED", 3)
    await ended(accounts)
    assert [key.id for key in await accounts.list(ACME)] == ["key_1", "key_3", "key_4"]
    assert [key.id for key in await accounts.list(None)] == ["key_1", "key_4", "key_5"]
