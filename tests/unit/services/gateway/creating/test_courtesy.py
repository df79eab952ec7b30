"""What callers are answered whose requests look like a machine's, and how prompts are compared without words."""

from __future__ import annotations

import pytest

from libs.errors import LimitExceeded
from libs.ids import TenantId
from libs.rpc import headers
from services.gateway.callers.identity import Caller
from services.gateway.creating import courtesy
from services.gateway.creating.likeness import simhash


def scored(abuse: int) -> Caller:
    return Caller(TenantId("anon:203.0.113.7"), "anonymous", address="203.0.113.7", abuse=abuse)


@pytest.mark.parametrize(
    ("abuse", "weight", "notice"), [(0, 1.0, False), (39, 1.0, False), (40, 0.5, False), (60, 0.25, True)]
)
def test_a_score_costs_weight_and_then_brings_a_notice(abuse: int, weight: float, notice: bool) -> None:
    told = headers.begin()
    courtesy.meet(scored(abuse))
    assert courtesy.weight(scored(abuse)) == weight
    assert ("x-notice" in told) is notice


def test_from_80_on_jobs_come_one_by_one_in_friendly_words() -> None:
    headers.begin()
    with pytest.raises(LimitExceeded) as refused:
        courtesy.meet(scored(80))
    error = refused.value
    assert (error.reason, error.retry_after_s) == ("ABNORMAL_USAGE", 30.0)
    assert "Nothing was charged" in error.message
    assert not [word for word in ("block", "ban", "abuse", "forbid") if word in error.message.lower()]


FOX = "a red fox in deep snow, early morning light, watercolour on rough paper, soft edges, high detail"


@pytest.mark.parametrize("other", [FOX.upper(), FOX.replace(",", " –"), FOX + ", 4k"])
def test_prompts_that_say_nearly_the_same_share_nearly_all_bits(other: str) -> None:
    assert (simhash(FOX) ^ simhash(other)).bit_count() <= 6


@pytest.mark.parametrize("other", ["", "a blue whale under the moon", "portrait of an old sailor smoking a pipe"])
def test_other_prompts_do_not(other: str) -> None:
    assert (simhash(FOX) ^ simhash(other)).bit_count() > 12


@pytest.mark.parametrize(
    ("text", "bits"),
    [
        ("", 0),
        ("?!", 0),
        ("fox", 0x12E107141A5273B7),
        (FOX, 0x75E3915C87608A74),
        ("word " * 400, 0x4AA4CF27D7C78E95),
        ("a red fox a red fox in deep snow", 0x14EA15BD1B684237),
        ("狐 \ud800 Straße", 0x1BF3EE0D334200CC),
    ],
)
def test_the_bits_of_a_prompt_stay_what_they_are(text: str, bits: int) -> None:
    assert simhash(text) == bits


def test_a_prompt_of_the_greatest_length_has_bits_too() -> None:
    assert 0 < simhash("word " * 400 + "\ud800") < 1 << 64
