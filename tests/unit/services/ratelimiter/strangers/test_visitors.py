"""As whom callers are taken who prove nothing, and who is handed a cookie."""

from __future__ import annotations

import pytest

from libs.secret_files import SigningKeys
from libs.signing import Signer
from libs.testing.clock import ManualClock
from services.ratelimiter.abuse.reputation import Reputation
from services.ratelimiter.abuse.watch import Watch
from services.ratelimiter.door.callers import Caller, Question
from services.ratelimiter.strangers.ages import came_today
from services.ratelimiter.strangers.cookies import Cookies
from services.ratelimiter.strangers.pseudonyms import Pseudonyms
from services.ratelimiter.strangers.visitors import Visitors

HERE, NEXT_DOOR, ELSEWHERE = "203.0.113.7", "203.0.113.8", "198.51.100.7"
PSEUDONYMS = Pseudonyms("a secret of the test")
KEYS = SigningKeys("k1", {"k1": b"1" * 32})


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def visitors(clock: ManualClock) -> Visitors:
    return Visitors(Cookies(Signer(KEYS)), PSEUDONYMS, Watch(Reputation((), clock), clock), clock)


def asking(address: str = HERE, cookie: str = "", path: str = "/", **headers: str) -> Question:
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return Question(address, {**given, **({"cookie": cookie} if cookie else {})}, "GET", path)


def cookie_of(caller: Caller) -> str:
    return dict(caller.told).get("set-cookie", "").partition(";")[0]


async def test_whoever_brings_none_is_the_address_and_comes_back_as_somebody(visitors: Visitors):
    first = await visitors.recognise(asking())
    assert first.tenant_id == "anon:" + PSEUDONYMS.of(HERE)
    back = await visitors.recognise(asking(cookie=cookie_of(first)))
    again = await visitors.recognise(asking(cookie=cookie_of(first)))
    assert back.tenant_id == again.tenant_id != first.tenant_id
    assert back.told == ()
    assert [caller.address for caller in (first, back)] == [PSEUDONYMS.of(HERE)] * 2


async def test_the_cookie_holds_in_its_network_and_is_as_none_elsewhere(visitors: Visitors):
    cookie = cookie_of(await visitors.recognise(asking()))
    here = await visitors.recognise(asking(cookie=cookie))
    near = await visitors.recognise(asking(NEXT_DOOR, cookie))
    assert near.tenant_id == here.tenant_id
    assert near.address == PSEUDONYMS.of(NEXT_DOOR)
    replayed = await visitors.recognise(asking(ELSEWHERE, cookie))
    assert replayed.tenant_id == "anon:" + PSEUDONYMS.of(ELSEWHERE)
    assert cookie_of(replayed) not in ("", cookie)


async def test_an_address_gets_ten_cookies_an_hour(visitors: Visitors, clock: ManualClock):
    given = [cookie_of(await visitors.recognise(asking())) for _ in range(12)]
    assert len(set(given[:10])) == 10
    assert given[10:] == ["", ""]
    assert (await visitors.recognise(asking())).tenant_id == "anon:" + PSEUDONYMS.of(HERE)
    assert cookie_of(await visitors.recognise(asking(NEXT_DOOR)))
    await clock.advance(361)
    assert [bool(cookie_of(await visitors.recognise(asking()))) for _ in range(2)] == [True, False]


@pytest.mark.parametrize("path", ["/v1/blobs/ab.png?e=1", "/healthz"])
async def test_what_others_may_keep_or_probe_hands_out_none(visitors: Visitors, path: str):
    assert (await visitors.recognise(asking(path=path))).told == ()


@pytest.mark.parametrize("content_type", ["application/grpc", "application/grpc-web+proto"])
async def test_grpc_keeps_no_cookies(visitors: Visitors, content_type: str):
    assert (await visitors.recognise(asking(content_type=content_type))).told == ()


@pytest.mark.parametrize(("scheme", "secure"), [("https", True), ("http", False)])
async def test_behind_tls_it_goes_back_over_tls_only(visitors: Visitors, scheme: str, secure: bool):
    caller = await visitors.recognise(asking(x_forwarded_proto=scheme))
    assert ("Secure" in dict(caller.told)["set-cookie"]) is secure


async def test_an_aged_signature_is_made_anew_and_stays_the_same_visitor(visitors: Visitors, clock: ManualClock):
    cookie = cookie_of(await visitors.recognise(asking()))
    rotated = SigningKeys("k2", {**KEYS.keys, "k2": b"2" * 32})
    after = Visitors(Cookies(Signer(rotated)), PSEUDONYMS, Watch(Reputation((), clock), clock), clock)
    back = await after.recognise(asking(cookie=cookie))
    assert back.tenant_id == (await visitors.recognise(asking(cookie=cookie))).tenant_id
    assert cookie_of(back) not in ("", cookie)


async def test_a_visitor_of_today_is_known_by_the_tenant(visitors: Visitors, clock: ManualClock):
    caller = await visitors.recognise(asking(cookie=cookie_of(await visitors.recognise(asking()))))
    now_s = clock.now()
    assert came_today(caller.tenant_id, now_s)
    assert not came_today(caller.tenant_id, now_s + 86_400)
    assert came_today(visitors.at(HERE).tenant_id, now_s + 86_400)


def test_what_is_kept_of_an_address_is_not_the_address():
    names = {PSEUDONYMS.of(address) for address in (HERE, "::ffff:" + HERE, NEXT_DOOR, "2001:db8::1", "2001:db8::2")}
    assert len(names) == 3
    assert not [name for name in names if HERE in name or "2001" in name]
    assert Pseudonyms("another").of(HERE) not in names
    assert PSEUDONYMS.of("") == "unknown"
