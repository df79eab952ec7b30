"""Pages of one's own usage and events: bound to who asked and for what, and whole across midnight."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest

from libs.clients.account import AccountLimits, EventPlace, UsageWanted
from libs.clients.limiter_tenants import TenantNews
from libs.clients.limiter_usage import UsageRecord
from libs.errors import InvalidRequest
from libs.ids import KeyId, TenantId
from libs.signing import Signer
from libs.testing.clock import ManualClock
from services.gateway.accounts.own_account import OwnAccount, UsageAsked
from tests.unit.services.gateway.fakes import CALLER, KEYS

DAY_S = 86_400.0
OTHER = replace(CALLER, tenant_id=TenantId("other"))


@dataclass
class FakeAccount:
    """Has as many lines and events as it is told, and notes what it was asked."""

    wanted: list[tuple[TenantId, UsageWanted]] = field(default_factory=list)
    befores: list[tuple[TenantId, EventPlace | None]] = field(default_factory=list)
    more: bool = True

    async def limits(self, tenant_id: TenantId, tier: str, key_id: KeyId, address: str) -> AccountLimits:
        return AccountLimits([])

    async def usage(self, tenant_id: TenantId, wanted: UsageWanted) -> tuple[Sequence[UsageRecord], bool]:
        self.wanted.append((tenant_id, wanted))
        counts = (1, 1, 0, 0, 0, 1, 9.0, 8.0, 7.0, 0, 9.0)
        return [UsageRecord(wanted.to_day, tenant_id, KeyId("key_9"), "tiny@1", *counts)], self.more

    async def events(
        self, tenant_id: TenantId, before: EventPlace | None, most: int
    ) -> tuple[Sequence[TenantNews], EventPlace | None]:
        self.befores.append((tenant_id, before))
        return [TenantNews("evt_1", tenant_id, "usage_spike", "…", 5.0)], (0.1 + 0.2, "evt_1") if self.more else None


@pytest.fixture
def account() -> FakeAccount:
    return FakeAccount()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def own(account: FakeAccount, clock: ManualClock) -> OwnAccount:
    return OwnAccount(account, Signer(KEYS), clock)


async def test_the_next_page_begins_behind_the_last_line_and_keeps_its_days_across_midnight(
    own: OwnAccount, account: FakeAccount, clock: ManualClock
):
    asked = UsageAsked(by=("key,day", "model"), size=7)
    first = await own.usage(CALLER, asked)
    await clock.advance(DAY_S)
    account.more = False
    last = await own.usage(CALLER, replace(asked, token=first.next_token))
    assert (last.query, last.next_token) == (first.query, "")
    (_, one), (_, two) = account.wanted
    assert (one.after, two.after) == ((), ("key_9", "2023-11-14", "tiny@1"))
    assert replace(two, after=()) == one == UsageWanted("2023-10-16", "2023-11-14", ("key", "day", "model"), (), 7)


async def test_the_longest_time_is_read_to_its_end_although_midnight_comes(own: OwnAccount, clock: ManualClock):
    today = datetime.fromtimestamp(clock.now(), UTC).date()
    asked = UsageAsked(from_text=(today - timedelta(days=92)).isoformat())
    first = await own.usage(CALLER, asked)
    await clock.advance(DAY_S)
    assert (await own.usage(CALLER, replace(asked, token=first.next_token))).query == first.query
    with pytest.raises(InvalidRequest, match="at most 92 days before today"):
        await own.usage(CALLER, asked)


async def test_a_token_is_good_for_nobody_else_and_nothing_else(own: OwnAccount):
    usage = (await own.usage(CALLER, UsageAsked())).next_token
    _, events = await own.events(CALLER, 0, "")
    for caller, asked in (
        (OTHER, UsageAsked(token=usage)),
        (CALLER, UsageAsked(by=("model",), token=usage)),
        (CALLER, UsageAsked(from_text="2023-11-01", token=usage)),
        (CALLER, UsageAsked(token=events)),
        (CALLER, UsageAsked(token=usage[:-4])),
    ):
        with pytest.raises(InvalidRequest) as caught:
            await own.usage(caller, asked)
        assert caught.value.reason == "PAGE_TOKEN_INVALID"
    for caller, token in ((OTHER, events), (CALLER, usage)):
        with pytest.raises(InvalidRequest):
            await own.events(caller, 0, token)


async def test_events_go_on_from_the_exact_moment_of_the_last(own: OwnAccount, account: FakeAccount):
    _, token = await own.events(CALLER, 0, "")
    account.more = False
    assert (await own.events(CALLER, 0, token))[1] == ""
    assert account.befores == [("acme", None), ("acme", (0.1 + 0.2, "evt_1"))]
