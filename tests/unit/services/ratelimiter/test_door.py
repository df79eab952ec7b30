"""Who is let in, as whom, and what they are told of their limits."""

from __future__ import annotations

import pytest

from libs.errors import Unauthenticated
from libs.ids import JobId, KeyId, TenantId
from services.ratelimiter.accounts import Key
from services.ratelimiter.door import Door, anonymous
from services.ratelimiter.reservation import Hold

SECRET = "dk_ABCDEFGH_" + "s" * 43
KEY = Key(KeyId("key_1"), TenantId("acme"), "pro", "dk_ABCDEFGH", "laptop", 0.0)


class FakeKeyring:
    """Knows one secret."""

    async def authenticate(self, secret: str) -> Key:
        if secret != SECRET:
            raise Unauthenticated("not known")
        return KEY


@pytest.fixture
def door(bench) -> Door:
    return Door(FakeKeyring(), bench.limiter, bench.meters)  # type: ignore[arg-type]


@pytest.mark.parametrize("authorization", [f"Bearer {SECRET}", f"bearer  {SECRET} "])
async def test_a_key_makes_its_tenant(door: Door, authorization: str):
    answer = await door.check(authorization, "203.0.113.7")
    assert answer.refusal is None
    assert (answer.caller.tenant_id, answer.caller.tier, answer.caller.key_id) == ("acme", "pro", "key_1")
    assert dict(answer.headers)["x-ratelimit-limit-requests"] == "60"


async def test_no_key_is_the_anonymous_tenant_of_the_address(door: Door):
    answer = await door.check("", "203.0.113.7")
    assert answer.refusal is None
    assert (answer.caller.tenant_id, answer.caller.tier, answer.caller.key_id) == ("anon:203.0.113.7", "anonymous", "")
    assert dict(answer.headers)["x-ratelimit-limit-requests"] == "5"


@pytest.mark.parametrize("authorization", ["Bearer nonsense", "Bearer", SECRET, "Basic abc", f"Bearer {SECRET},x"])
async def test_a_wrong_key_is_refused_and_never_anonymous(door: Door, bench, authorization: str):
    answer = await door.check(authorization, "203.0.113.7")
    assert answer.refusal is not None
    assert answer.refusal.reason == "KEY_INVALID"
    assert dict(answer.headers)["x-ratelimit-limit-requests"] == "5"  # of the address
    assert bench.counted("darkroom_errors") == {(("reason", "KEY_INVALID"),): 1}


async def test_looking_costs_nothing_and_spent_limits_keep_nobody_from_reading(door: Door, bench):
    for n in range(5):
        await bench.limiter.reserve(Hold(JobId(f"job_{n}"), TenantId("anon:203.0.113.7"), "anonymous", 10))
    answers = [await door.check("", "203.0.113.7") for _ in range(20)]
    assert all(answer.refusal is None for answer in answers)
    assert dict(answers[-1].headers)["x-ratelimit-remaining-requests"] == "0"
    assert "retry-after" not in dict(answers[-1].headers)


@pytest.mark.parametrize(
    ("address", "tenant"),
    [
        ("203.0.113.7", "anon:203.0.113.7"),
        ("::ffff:203.0.113.7", "anon:203.0.113.7"),
        ("2001:DB8:0:0::1", "anon:2001:db8::/64"),
        ("2001:db8::ffff:0:0:2", "anon:2001:db8::/64"),
        ("fe80::1%eth0", "anon:fe80::/64"),
        ("", "anon:unknown"),
        ("/run/envoy.sock", "anon:unknown"),
    ],
)
def test_an_address_has_one_spelling(address: str, tenant: str):
    assert anonymous(address).tenant_id == tenant
