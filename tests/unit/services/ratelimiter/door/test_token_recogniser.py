"""Whom a checked token stands for. Which tokens are good is Envoy's to say: tests/integration/services/door."""

from __future__ import annotations

from typing import cast

import pytest

from libs import scopes
from libs.errors import Unauthenticated, Unavailable
from libs.ids import TenantId
from libs.testing.clock import ManualClock
from services.ratelimiter.door.callers import Caller, Claims, Question
from services.ratelimiter.door.token_recogniser import ByToken, ClaimNames
from services.ratelimiter.keys.accounts import Accounts

NAMES = ClaimNames(tenant="org", tier="plan", scope="scp", tiers=frozenset({"pro", "payg"}))
TOKEN = "Bearer eyJh.eyJi.c2ln"


class FakeAccounts:
    """Gives each tenant its first tier until `moved` gives it another; counts the questions."""

    def __init__(self) -> None:
        self.tiers: dict[TenantId, str] = {}
        self.asked = 0

    async def admit(self, tenant_id: TenantId, tier: str, now_s: float) -> str:
        self.asked += 1
        return self.tiers.setdefault(tenant_id, tier)


@pytest.fixture
def accounts() -> FakeAccounts:
    return FakeAccounts()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def by_token(accounts: FakeAccounts, clock: ManualClock) -> ByToken:
    return ByToken(cast("Accounts", accounts), NAMES, clock)


async def caller(by_token: ByToken, **claims: tuple[str, ...]) -> Caller:
    told: Claims = {"org": ("acme",), "sub": ("ann",), **claims}
    found = await by_token.recognise(Question(claims=told))
    assert found is not None
    return found


async def test_the_claims_are_those_that_the_settings_name(by_token: ByToken):
    found = await caller(by_token, plan=("payg",), scp=("jobs:read openid", "models:read"), tenant=("other",))
    assert (found.tenant_id, found.tier, scopes.text(found.scopes)) == ("acme", "payg", "jobs:read models:read")
    assert len(found.key_id) <= 64


@pytest.mark.parametrize("plan", [(), ("enterprise",), ("anonymous",), ("pro", "payg")])
async def test_what_no_token_may_give_is_free(by_token: ByToken, plan: tuple[str, ...]):
    assert (await caller(by_token, plan=plan)).tier == "free"


async def test_a_new_tier_counts_within_seconds_and_is_not_asked_for_each_time(
    by_token: ByToken, accounts: FakeAccounts, clock: ManualClock
):
    for _ in range(5):
        assert (await caller(by_token)).tier == "free"
    assert accounts.asked == 1
    accounts.tiers[TenantId("acme")] = "pro"
    await clock.advance(5)
    assert (await caller(by_token)).tier == "pro"


@pytest.mark.parametrize(
    "org", [(), ("",), ("a b",), ("münchen",), ("anon:1.2.3.4",), ("a\nb",), ("x" * 201,), ("a", "b")]
)
async def test_a_tenant_that_cannot_be_one_is_refused_and_never_made(
    by_token: ByToken, accounts: FakeAccounts, org: tuple[str, ...]
):
    with pytest.raises(Unauthenticated, match="its claim org must") as caught:
        await caller(by_token, org=org)
    assert caught.value.reason == "TOKEN_INVALID"
    assert accounts.asked == 0


@pytest.mark.parametrize("authorization", ["", "Bearer dk_ABCDEFGH_" + "s" * 43, "Basic a.b.c", "Bearer a.b"])
async def test_what_is_no_token_is_left_to_others(by_token: ByToken, authorization: str):
    question = Question(headers={"authorization": authorization}, fault="Jwt is missing")
    assert await by_token.recognise(question) is None


@pytest.mark.parametrize(
    ("fault", "kind", "reason"),
    [
        ("", Unauthenticated, "TOKEN_INVALID"),
        ("Jwt is expired", Unauthenticated, "TOKEN_EXPIRED"),
        ("Jwt verification fails", Unauthenticated, "TOKEN_INVALID"),
        ("Jwks doesn't have key to match kid or alg from Jwt", Unauthenticated, "TOKEN_INVALID"),
        ("Jwks remote fetch is failed", Unavailable, "LIMITER_DEGRADED"),
    ],
)
async def test_a_token_without_claims_is_refused_and_our_own_trouble_is_said_to_be_ours(
    by_token: ByToken, fault: str, kind: type[Unauthenticated | Unavailable], reason: str
):
    with pytest.raises(kind) as caught:
        await by_token.recognise(Question(headers={"authorization": TOKEN}, fault=fault))
    assert caught.value.reason == reason
