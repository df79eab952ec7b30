"""A cookie holds for whom, where and as long as it was made, and for nobody else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.secret_files import SigningKeys
from libs.signing import Signer
from services.ratelimiter.strangers.ages import made_on
from services.ratelimiter.strangers.cookies import LIFE_DAYS, NAME, Cookies, Visitor, new_visitor

NOW_S, DAY_S = 20_000 * 86_400.0 + 4711.0, 86_400
HERE, ELSEWHERE = "203.0.113.0/24", "198.51.100.0/24"
OLD = Cookies(Signer(SigningKeys("k1", {"k1": b"1" * 32})))
BOTH = Cookies(Signer(SigningKeys("k 2.ü", {"k1": b"1" * 32, "k 2.ü": b"2" * 32})))
NEW = Cookies(Signer(SigningKeys("k 2.ü", {"k 2.ü": b"2" * 32})))


def sent(cookies: Cookies, visitor: Visitor, network: str = HERE) -> str:
    """Return what a browser sends back."""
    _, value = cookies.header(visitor, network, secure=False)
    return value.partition(";")[0]


def test_it_says_who_came_back():
    visitor = new_visitor(NOW_S)
    shown = OLD.read(f"a=b; {sent(OLD, visitor)}; c=d", HERE, NOW_S + 30 * DAY_S)
    assert shown is not None
    assert (shown.visitor, shown.aged) == (visitor, False)
    assert made_on(visitor.id) == 20_000
    assert new_visitor(NOW_S) != visitor


@pytest.mark.parametrize("secure", [True, False])
def test_scripts_and_other_sites_do_not_get_it(secure: bool):
    name, value = OLD.header(new_visitor(NOW_S), HERE, secure=secure)
    told = {part.strip() for part in value.split(";")[1:]}
    assert name == "set-cookie"
    assert told == {"Path=/", "Max-Age=34560000", "HttpOnly", "SameSite=Lax"} | ({"Secure"} if secure else set())


def test_another_network_time_or_key_makes_it_none():
    cookie = sent(OLD, new_visitor(NOW_S))
    assert OLD.read(cookie, ELSEWHERE, NOW_S) is None
    assert OLD.read(cookie, HERE, NOW_S + (LIFE_DAYS + 1) * DAY_S) is None
    assert OLD.read(cookie, HERE, NOW_S - 3 * DAY_S) is None
    assert NEW.read(cookie, HERE, NOW_S) is None


def test_a_key_that_goes_leaves_time_to_sign_anew():
    visitor = new_visitor(NOW_S)
    shown = BOTH.read(sent(OLD, visitor), HERE, NOW_S)
    assert shown is not None
    assert (shown.visitor, shown.aged) == (visitor, True)
    again = NEW.read(sent(BOTH, visitor), HERE, NOW_S)
    assert again is not None
    assert (again.visitor, again.aged) == (visitor, False)


def test_every_changed_character_makes_it_none():
    cookie = sent(OLD, new_visitor(NOW_S))
    value = cookie.partition("=")[2]
    for at, character in enumerate(value):
        forged = value[:at] + ("B" if character == "A" else "A") + value[at + 1 :]
        shown = OLD.read(f"{NAME}={forged}", HERE, NOW_S)
        assert shown is None, forged


@given(st.text(max_size=200))
def test_no_header_breaks_it(text: str):
    assert OLD.read(text, HERE, NOW_S) is None
    assert OLD.read(f"{NAME}={text}", HERE, NOW_S) is None


def test_another_purpose_of_the_same_key_signs_none():
    visitor = new_visitor(NOW_S)
    key_id, signature = Signer(SigningKeys("k1", {"k1": b"1" * 32})).sign("blob", (visitor.id, HERE))
    assert OLD.read(f"{NAME}={visitor.id}.{signature}.{key_id}", HERE, NOW_S) is None
