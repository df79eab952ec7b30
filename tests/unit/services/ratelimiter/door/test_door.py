"""Who is let in, as whom, and what they are told of their limits."""

from __future__ import annotations

import pytest

from libs.errors import LimitExceeded, Unauthenticated
from libs.ids import JobId, KeyId, TenantId
from libs.secret_files import SigningKeys
from libs.signing import Signer
from services.ratelimiter.abuse.reputation import Reputation
from services.ratelimiter.abuse.watch import Watch
from services.ratelimiter.balances.reservation import Hold
from services.ratelimiter.door.callers import Question
from services.ratelimiter.door.door import Door
from services.ratelimiter.door.key_recogniser import ByKey
from services.ratelimiter.keys.accounts import Key
from services.ratelimiter.strangers.cookies import Cookies
from services.ratelimiter.strangers.pseudonyms import Pseudonyms
from services.ratelimiter.strangers.visitors import Visitors
from services.ratelimiter.strangers.wrong_keys import WrongKeys

PSEUDONYMS = Pseudonyms("a secret of the test")
STRANGER = TenantId("anon:" + PSEUDONYMS.of("203.0.113.7"))
SECRET = "dk_ABCDEFGH_" + "s" * 43
KEY = Key(KeyId("key_1"), TenantId("acme"), "pro", "dk_ABCDEFGH", "laptop", 0.0)


PADDED = (f"Bearer  {SECRET}", f"Bearer {SECRET} ", f" Bearer {SECRET}", f"Bearer\t{SECRET}", f"Bearer {SECRET}\n")


class FakeKeyring:
    """Knows one secret, and remembers it."""

    def remembers(self, secret: str) -> bool:
        return secret == SECRET

    async def authenticate(self, secret: str) -> Key:
        if secret != SECRET:
            raise Unauthenticated("not known")
        return KEY


def asking(authorization: str) -> Question:
    return Question("203.0.113.7", {"authorization": authorization} if authorization else {})


@pytest.fixture
def door(bench) -> Door:
    strangers = Visitors(
        Cookies(Signer(SigningKeys("k1", {"k1": b"1" * 32}))),
        PSEUDONYMS,
        Watch(Reputation((), bench.clock), bench.clock),
        bench.clock,
    )
    wrong_keys = WrongKeys(bench.clock)
    return Door([ByKey(FakeKeyring(), wrong_keys)], strangers, wrong_keys, bench.limiter, bench.meters)  # type: ignore[arg-type]


@pytest.mark.parametrize("authorization", [f"Bearer {SECRET}", f"bearer {SECRET}", f"BEARER {SECRET}"])
async def test_a_key_makes_its_tenant(door: Door, authorization: str):
    answer = await door.check(asking(authorization))
    assert answer.refusal is None
    assert (answer.caller.tenant_id, answer.caller.tier, answer.caller.key_id) == ("acme", "pro", "key_1")
    assert dict(answer.headers)["x-ratelimit-limit-requests"] == "60"


async def test_no_key_is_the_anonymous_tenant_of_the_address(door: Door):
    answer = await door.check(asking(""))
    assert answer.refusal is None
    assert (answer.caller.tenant_id, answer.caller.tier, answer.caller.key_id) == (STRANGER, "anonymous", "")
    assert dict(answer.headers)["x-ratelimit-limit-requests"] == "5"


@pytest.mark.parametrize(
    "authorization", ["Bearer nonsense", "Bearer", SECRET, "Basic abc", f"Bearer {SECRET},x", *PADDED]
)
async def test_a_wrong_key_is_refused_and_never_anonymous(door: Door, bench, authorization: str):
    answer = await door.check(asking(authorization))
    assert answer.refusal is not None
    assert answer.refusal.reason == "KEY_INVALID"
    assert dict(answer.headers)["x-ratelimit-limit-requests"] == "5"  # of the address
    assert bench.counted("darkroom_errors") == {(("reason", "KEY_INVALID"),): 1}


async def test_looking_costs_nothing_and_spent_limits_keep_nobody_from_reading(door: Door, bench):
    for n in range(5):
        await bench.limiter.reserve(Hold(JobId(f"job_{n}"), STRANGER, "anonymous", 10))
    answers = [await door.check(asking("")) for _ in range(20)]
    assert all(answer.refusal is None for answer in answers)
    assert dict(answers[-1].headers)["x-ratelimit-remaining-requests"] == "0"
    assert "retry-after" not in dict(answers[-1].headers)


async def test_after_ten_wrong_keys_a_minute_an_address_waits_and_a_good_key_there_does_not(door: Door, bench):
    answers = [await door.check(asking("Bearer nonsense")) for _ in range(20)]
    assert {answer.refusal.reason for answer in answers[:10] if answer.refusal} == {"KEY_INVALID"}
    refusal = answers[-1].refusal
    assert isinstance(refusal, LimitExceeded)
    assert (refusal.reason, refusal.retry_after_s) == ("RPM_EXHAUSTED", 6)
    assert dict(answers[-1].headers)["retry-after"] == "6"
    assert (await door.check(asking(f"Bearer {SECRET}"))).refusal is None
    assert (await door.check(asking(""))).refusal is None
    await bench.clock.advance(6)
    last = await door.check(asking("Bearer nonsense"))
    assert isinstance(last.refusal, Unauthenticated)
