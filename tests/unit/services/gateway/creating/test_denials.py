"""What callers read when a limit refuses: which, when it frees, what fits now, and that nothing was charged."""

from __future__ import annotations

import pytest

from libs.clients.limiter import Decision, Denial
from libs.errors import LimitExceeded, PreconditionFailed
from libs.generation.cost import CostEntry, CostTable
from libs.generation.spec import SpecRequest, resolve
from services.gateway.creating.cheaper import Option, Room, cheaper
from services.gateway.creating.denials import denied
from services.gateway.creating.drafts import Priced
from services.gateway.creating.reserving import room
from tests.unit.services.gateway.fakes import MODEL

REQUEST = SpecRequest(prompt="a cat", images=4)
SPEC = resolve(REQUEST, MODEL, 0)
PRICED = Priced(REQUEST, SPEC, MODEL, 2000.0)
DAY_S = 5 * 3600.0 + 12 * 60.0


def text(denial: Denial, tier: str = "free", fitting: tuple[Option, ...] = ()) -> str:
    error = denied(denial, PRICED, fitting, tier)
    assert "othing was charged" in error.message
    return error.message


def test_anonymous_callers_are_told_kindly_when_their_day_is_used():
    told = text(Denial("daily_images", 50, 0, DAY_S), "anonymous")
    assert told.startswith("You have used today's 50 free images. They reset at 00:00 UTC (in 5 h 12 min).")
    assert "block" not in told


def test_who_shares_an_address_is_told_that_it_is_the_network():
    told = text(Denial("address", 150, 0, DAY_S, account="address", about="daily_images"), "anonymous")
    assert told.startswith("Your network has used today's 150 free images.")


def test_what_is_left_of_a_day_is_told_with_what_fits():
    smaller = Option(SPEC, 100.0)
    told = text(Denial("daily_images", 200, 2, DAY_S), fitting=(smaller,))
    assert told.startswith("2 of today's 200 images are left and this request needs 4 images.")
    assert f"{smaller} would be taken now." in told


def test_units_of_a_day():
    error = denied(Denial("daily_units", 3_000_000, 0, DAY_S), PRICED, (), "free")
    assert isinstance(error, LimitExceeded)
    assert (error.reason, error.retry_after_s) == ("DAILY_QUOTA_EXHAUSTED", DAY_S)
    assert "today's 3000000 units" in error.message


def test_pictures_in_flight():
    error = denied(Denial("in_flight", 4, 1, 7.2), PRICED, (), "free")
    assert isinstance(error, LimitExceeded)
    assert error.reason == "CONCURRENCY_EXHAUSTED"
    assert error.message.startswith("3 of your 4 pictures in flight are waiting or running, and this request has 4;")
    assert "8 s" in error.message
    assert (error.metadata["limit"], error.metadata["used"]) == ("4", "3")


def test_a_keys_own_limit_is_told_as_such():
    assert "this key's 4 pictures" in text(Denial("in_flight", 4, 0, 1.0, account="key"))


@pytest.mark.parametrize(
    ("about", "limit", "words"),
    [
        ("pixels", 1000, "pixels, more than the 1000 that your tier draws"),
        ("steps", 5, "more than the 5 steps that your tier draws"),
        ("in_flight", 2, "more than the 2 pictures that your tier has in flight at once"),
        ("daily_images", 3, "more than the 3 pictures that your tier has in a day"),
        ("units", 1500, "needs 2000 units as measured now, more than the 1500 that your tier ever has"),
    ],
)
def test_what_a_tier_never_draws(about: str, limit: float, words: str):
    error = denied(Denial("tier", limit, limit, 0.0, about=about), PRICED, ())
    assert isinstance(error, PreconditionFailed)
    assert words in error.message
    assert "waiting does not help" in error.message
    assert error.metadata["about"] == about


@pytest.mark.parametrize(
    ("denial", "expected"),
    [
        (Denial("requests", 5, 0, 3.0), None),
        (Denial("in_flight", 4, 0, 3.0), None),
        (Denial("cost", 5, 0, 3.0), None),
        (Denial("tier", 900, 0, 0.0, about="units"), Room(900, None, 4096, 30)),
        (Denial("tier", 30, 0, 0.0, about="steps"), Room(500.0, None, 4096, 30)),
        (Denial("tier", 2, 0, 0.0, about="in_flight"), Room(500.0, 2, 4096, 30)),
    ],
)
def test_what_would_fit(denial: Denial, expected: Room | None):
    decision = Decision(denial, (), 500.0, available_images=0, max_pixels=4096, max_steps=30)
    assert room(decision) == expected


def test_a_suggestion_fits_into_all_that_is_left():
    left = Room(500.0, images=3, pixels=SPEC.width * SPEC.height - 1, steps=SPEC.steps - 1)
    options = cheaper(SPEC, MODEL, CostTable({}), left)
    assert options
    for option in options:
        assert option.spec.images <= 3
        assert option.spec.width * option.spec.height < SPEC.width * SPEC.height
        assert option.spec.steps < SPEC.steps


def test_what_never_fits_gets_a_form_however_far_and_what_fits_later_does_not():
    dear, left = CostTable({MODEL.pinned: CostEntry(per_mp=44_000.0)}), Room(500.0)
    assert cheaper(SPEC, MODEL, dear, left) == []
    options = cheaper(SPEC, MODEL, dear, left, far=True)
    assert options
    assert max(option.units for option in options) <= 500.0
    assert "No smaller form" in text(Denial("tier", 1, 1, 0.0, about="units"))
