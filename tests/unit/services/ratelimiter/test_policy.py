"""The file of the tiers is taken whole or not at all."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from services.ratelimiter import policy
from services.ratelimiter.bucket import Rate

GOOD = policy.SHIPPED.read_text()


def complaint_about(tmp_path: Path, text: str) -> str:
    file = tmp_path / "tiers.toml"
    file.write_text(text)
    return policy.complaint(file) or ""


def test_the_shipped_file_knows_every_tier():
    shipped = policy.load(policy.SHIPPED)
    assert tuple(shipped.tiers) == policy.TIERS
    assert shipped.of("anonymous").requests == Rate(5, 5)
    assert shipped.of("free").units == Rate(30_000, 60_000)
    assert shipped.of("payg").units == shipped.of("pro").units
    assert shipped.window_s == 120


def test_better_tiers_never_grant_less():
    tiers = [policy.load(policy.SHIPPED).of(tier) for tier in policy.TIERS]
    grants = [(t.requests.per_minute, t.requests.burst, t.units.per_minute, t.units.burst) for t in tiers]
    assert grants == sorted(grants, reverse=True)


def test_everything_wrong_is_named_at_once_with_file_tier_and_field(tmp_path: Path):
    text = GOOD.replace("[free]", "[fre]").replace("units_burst = 480_000", "unit_burst = 480_000", 1)
    text = text.replace("requests_per_minute = 5\n", "requests_per_minute = -5\n")
    lines = complaint_about(tmp_path, text).splitlines()
    assert all(line.startswith(f"{tmp_path / 'tiers.toml'}: tier ") for line in lines)
    assert [line.partition(": tier ")[2] for line in lines] == [
        "fre: unknown; did you mean free?",
        "pro: unit_burst: unknown; did you mean units_burst?",
        "pro: units_burst: missing",
        "free: missing; it needs requests_per_minute, requests_burst, units_per_minute, units_burst",
        "anonymous: requests_per_minute: must be a number above 0",
    ]


@pytest.mark.parametrize("value", ["0", "-1", "true", '"60"', "nan", "inf", "[60]"])
def test_a_limit_is_a_finite_number_above_zero(tmp_path: Path, value: str):
    text = GOOD.replace("requests_per_minute = 10", f"requests_per_minute = {value}")
    assert "tier free: requests_per_minute: must be a number above 0" in complaint_about(tmp_path, text)


def test_a_burst_below_one_request_would_refuse_everybody(tmp_path: Path):
    text = GOOD.replace("requests_burst = 10", "requests_burst = 0.5")
    assert "tier free: requests_burst: must be 1 or more" in complaint_about(tmp_path, text)


@pytest.mark.parametrize(
    ("field", "bad", "must_be"),
    [
        ("daily_units", "-1", "a number above 0"),
        ("in_flight_images", "2.5", "a whole number above 0"),
        ("max_steps", "30.5", "a whole number above 0"),
        ("borrows", '"yes"', "true or false"),
        ("requires", '"email"', '"verified" or left out'),
        ("weight", "0", "a number above 0"),
        ("outage_share", "1.5", "a number from 0 to 1"),
        ("outage_minutes", "-1", "a number of 0 or more"),
        ("price_per_1000_units", "nan", "a number of 0 or more"),
    ],
)
def test_every_optional_limit_says_what_it_must_be(tmp_path: Path, field: str, bad: str, must_be: str):
    text = re.sub(rf"^{field} = .*\n", "", GOOD, flags=re.MULTILINE)
    assert f"anonymous: {field}: must be {must_be}" in complaint_about(tmp_path, f"{text}{field} = {bad}\n")


def test_what_a_tier_leaves_out_is_no_limit():
    shipped = policy.load(policy.SHIPPED)
    assert shipped.of("enterprise").daily_images is None
    assert shipped.of("anonymous").daily_images == 50
    assert shipped.of("free").outage == policy.Outage(share=0.25, lasts_s=300.0)
    assert shipped.of("pro").outage.lasts_s is None


@pytest.mark.parametrize("text", ["[pro", "pro = 5"])
def test_what_is_not_a_table_of_tiers_is_refused(tmp_path: Path, text: str):
    assert "tiers.toml" in complaint_about(tmp_path, text)


def test_a_missing_file_is_named(tmp_path: Path):
    assert str(tmp_path / "none.toml") in (policy.complaint(tmp_path / "none.toml") or "")
