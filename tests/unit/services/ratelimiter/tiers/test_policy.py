"""The file of the tiers is taken whole or not at all."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from services.ratelimiter.balances.bucket import Rate
from services.ratelimiter.tiers import policy

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
    assert shipped.window_s == 150


def test_better_tiers_never_grant_less():
    tiers = [policy.load(policy.SHIPPED).of(tier) for tier in policy.TIERS]
    grants = [(t.requests.per_minute, t.requests.burst, t.units.per_minute, t.units.burst) for t in tiers]
    assert grants == sorted(grants, reverse=True)


def test_everything_wrong_is_named_at_once_with_file_tier_and_field(tmp_path: Path):
    text = GOOD.replace("[free]", "[fre]").replace("units_burst = 600_000", "unit_burst = 600_000", 1)
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


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        (
            "units_burst",
            "52_774",
            "units_burst: must be 52_774 or more, which one picture of 1048576 pixels at 50 steps",
        ),
        ("daily_units", "10_000", "daily_units: must be 52_774 or more"),
        ("running_images", "5", "running_images: must be at most in_flight_images, 4"),
    ],
)
def test_what_a_tier_allows_must_fit_what_it_grants(tmp_path: Path, field: str, value: str, told: str):
    head, tier, tail = GOOD.partition("[free]")
    text = head + tier + re.sub(rf"^{field} = .*$", f"{field} = {value}", tail, count=1, flags=re.MULTILINE)
    assert f"tier free: {told}" in complaint_about(tmp_path, text)


def test_a_network_has_no_less_than_one_of_its_addresses(tmp_path: Path):
    text = policy.SHIPPED.read_text().replace("network_daily_images = 600", "network_daily_images = 149")
    told = "tier anonymous: network_daily_images: must be at least address_daily_images, which is"
    assert f"{told} 150" in complaint_about(tmp_path, text)
    assert f"{told} not there" in complaint_about(tmp_path, text.replace("address_daily_images = 150\n", ""))


def test_a_tier_that_names_no_largest_request_promises_none(tmp_path: Path):
    text = GOOD.replace("max_steps = 50\n", "").replace("units_burst = 60_000", "units_burst = 100")
    assert complaint_about(tmp_path, text) == ""


def test_fields_and_limits_are_each_others_inverse():
    for tier, limits in policy.load(policy.SHIPPED).tiers.items():
        assert policy.limits_of(tier, policy.fields_of(limits)) == limits


def test_what_is_agreed_replaces_fields_and_none_takes_a_limit_away():
    free = policy.load(policy.SHIPPED).of("free")
    agreed = policy.overridden(free, {"daily_images": 1000, "daily_units": None, "units_burst": 90_000})
    assert (agreed.daily_images, agreed.daily_units, agreed.units) == (1000, None, Rate(30_000, 90_000))
    assert (agreed.tier, agreed.requests, agreed.max_steps) == ("free", free.requests, free.max_steps)


def test_changes_are_told_by_tier_and_field():
    before = policy.load(policy.SHIPPED)
    text = GOOD.replace("daily_images = 200", "daily_images = 300").replace("outage_minutes = 5\n", "")
    text = text.replace(
        "running_images = 1\ndaily_images = 50", 'requires = "verified"\nborrows = true\ndaily_images = 50'
    )
    assert policy.changes(before, policy.parse(text, "tiers.toml")) == [
        "free.daily_images: 200 → 300",
        "free.outage_minutes: 5 → -",
        "anonymous.running_images: 1 → -",
        "anonymous.borrows: false → true",
        "anonymous.requires: - → verified",
    ]


@pytest.mark.parametrize(
    ("price", "units", "micros"),
    [(None, 5000.0, 0), (0.02, 1000.0, 20_000), (0.02, 0.01, 1), (0.1, 30.0, 3000), (0, 9.0, 0)],
)
def test_units_cost_whole_millionths_rounded_up(price: float | None, units: float, micros: int):
    priced = policy.overridden(policy.load(policy.SHIPPED).of("payg"), {"price_per_1000_units": price})
    assert priced.micros(units) == micros
