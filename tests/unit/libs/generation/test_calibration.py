from __future__ import annotations

import json
import math
import random
import statistics
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.generation.calibration import STAYS, Calibration
from libs.generation.cost import CostEntry, CostTable
from libs.generation.spec import GenerationSpec
from tests.unit.libs.generation.test_cost import spec

Truth = Callable[[GenerationSpec], float]


def small_machine(asked: GenerationSpec) -> float:
    """Milliseconds of a device with much overhead, where guidance costs less than twice."""
    rows = 1.6 if asked.guided else 1.0
    step = 1.2 + asked.images * rows * (0.8 + 90 * asked.megapixels + 25 * asked.megapixels**2)
    return 12 + asked.images * (3 + 60 * asked.megapixels) + asked.drawn_steps * step


def mixed(rng: random.Random) -> GenerationSpec:
    side = rng.choice((64, 96, 128, 256, 384, 512))
    steps, images, guidance = rng.choice((1, 2, 4, 8, 12, 20, 28)), rng.choice((1, 1, 1, 2, 4)), rng.choice((1.0, 5.0))
    return spec(
        width=side, height=rng.choice((side, side * 3 // 2)), steps=steps, images=images, guidance_scale=guidance
    )


def calibrated(truth: Truth, jobs: int, noise: float = 0.0, seed: int = 0) -> Calibration:
    rng, learns = random.Random(seed), Calibration.begin(CostEntry())
    for _ in range(jobs):
        asked = mixed(rng)
        learns.learn(asked, truth(asked) * math.exp(rng.gauss(0, noise)))
    return learns


def test_before_anything_was_measured_the_prior_holds() -> None:
    learns = Calibration.begin(CostEntry())
    assert not learns.known
    assert learns.entry().typical_units(spec()) == CostEntry().high_units(spec())


def test_after_500_mixed_jobs_prices_cover_nine_of_ten_and_miss_by_little_more_than_chance() -> None:
    noise = 0.12  # half of such jobs are more than 8 % off whatever is known of them
    learns, rng = calibrated(small_machine, 500, noise), random.Random(1)
    misses, covered, entry = [], [], learns.entry()
    for _ in range(400):
        asked = mixed(rng)
        took = small_machine(asked) * math.exp(rng.gauss(0, noise))
        misses.append(abs(entry.typical_units(asked) - took) / took)
        covered.append(took <= entry.high_units(asked))
    assert statistics.median(misses) <= 0.11
    assert 0.85 <= statistics.mean(covered) <= 0.95


def test_prices_told_a_while_ago_cover_nine_of_ten_on_a_device_that_is_slower_for_minutes() -> None:
    rng, learns, told, covered = random.Random(3), Calibration.begin(CostEntry()), CostEntry(), []
    for number in range(2500):
        if number % 25 == 0:
            told = learns.entry()
        asked, pace = mixed(rng), 0.2 * math.sin(number / 25)
        took = small_machine(asked) * math.exp(rng.gauss(pace, 0.08))
        covered.append(took <= told.high_units(asked))
        learns.learn(asked, took)
    assert 0.88 <= statistics.mean(covered[500:]) <= 0.92


def test_one_measurement_scales_every_price() -> None:
    learns, asked = Calibration.begin(CostEntry()), spec(guidance_scale=1.0)
    learns.learn(asked, 10.0 * CostEntry().high_units(asked))
    larger = spec(width=2000, height=2000, steps=30, images=4)
    ratio = learns.entry().typical_units(larger) / CostEntry().high_units(larger)
    assert 9.0 <= ratio <= 11.0


@st.composite
def histories(draw: st.DrawFn) -> Calibration:
    """Whatever jobs, whatever was measured of them: nothing here has to be plausible."""
    rng, learns = random.Random(draw(st.integers(0, 10**6))), Calibration.begin(CostEntry())
    level = draw(st.floats(-3, 6))
    for _ in range(draw(st.integers(1, 60))):
        learns.learn(mixed(rng), 10 ** (level + rng.uniform(-1, 1)))
    return learns


@settings(max_examples=60, deadline=None)
@given(histories(), st.integers(0, 10**6))
def test_whatever_was_measured_asking_for_more_never_costs_less(learns: Calibration, seed: int) -> None:
    entry, rng = learns.entry(), random.Random(seed)
    table = CostTable({"m@1": entry})
    for _ in range(30):
        less = spec(width=rng.randrange(64, 2049, 8), height=rng.randrange(64, 2049, 8), steps=rng.randint(1, 60))
        more = spec(
            width=less.width + rng.choice((0, 8, 512)),
            height=less.height + rng.choice((0, 8, 512)),
            steps=less.steps + rng.choice((0, 1, 30)),
            images=rng.choice((1, 2, 4)),
            guidance_scale=rng.choice((1.0, 5.0)),
        )
        plain = spec(width=less.width, height=less.height, steps=less.steps, guidance_scale=1.0)
        assert table.units(plain, "m@1") <= table.units(more, "m@1")
        assert table.typical_units(plain, "m@1") <= table.typical_units(more, "m@1") <= table.units(more, "m@1")


@settings(max_examples=60, deadline=None)
@given(histories(), st.sampled_from((1.0, 5.0)))
def test_whatever_was_measured_one_large_picture_costs_more_than_ten_small_ones(
    learns: Calibration, guidance: float
) -> None:
    large = spec(width=2048, height=2048, steps=50, guidance_scale=guidance)
    small = spec(width=512, height=512, steps=20, guidance_scale=guidance)
    entry = learns.entry()
    assert entry.high_units(large) > 10 * entry.high_units(small) > 0


def test_a_jump_is_not_learned() -> None:
    learns, asked = calibrated(small_machine, 200), spec(width=256, height=256, steps=8)
    usual = small_machine(asked)
    for _ in range(20):
        learns.learn(asked, usual)
    before = learns.entry()
    assert not any(learns.learn(asked, 4.0 * usual) for _ in range(STAYS - 1))
    assert learns.entry() == before
    assert learns.learn(asked, usual), "one that is as before ends the row"
    assert not any(learns.learn(asked, 4.0 * usual) for _ in range(STAYS - 1))


def test_a_jump_that_stays_is_learned() -> None:
    learns, asked, rng = calibrated(small_machine, 300), spec(width=256, height=256, steps=8), random.Random(3)
    before = learns.entry().typical_units(asked)
    learned = [learns.learn(slow, 4.0 * small_machine(slow)) for slow in (mixed(rng) for _ in range(100))]
    assert not any(learned[: STAYS - 1])
    assert all(learned[50:])
    assert 3.5 <= learns.entry().typical_units(asked) / before <= 4.5


def test_one_class_that_jumps_and_stays_is_learned_alone() -> None:
    learns, asked = Calibration.begin(CostEntry()), spec(input_image="upl_1", strength=0.5)
    for _ in range(20):
        learns.learn(asked, 100.0)
        learns.learn(spec(), 200.0)
    learned = [learns.learn(asked, 900.0) for _ in range(30)]
    assert learned == [False] * (STAYS - 1) + [True] * (31 - STAYS)
    assert 600.0 <= learns.entry().typical_units(asked) <= 1200.0
    assert 150.0 <= learns.entry().typical_units(spec()) <= 270.0


def test_one_device_of_several_that_is_ill_changes_nothing() -> None:
    learns, rng = calibrated(small_machine, 300), random.Random(5)
    for number in range(200):
        asked = mixed(rng)
        ill = number % 4 == 0
        assert learns.learn(asked, small_machine(asked) * (10.0 if ill else 1.0)) is not ill


def test_jumps_to_both_sides_never_stay() -> None:
    learns, asked = Calibration.begin(CostEntry()), spec()
    for _ in range(10):
        learns.learn(asked, 100.0)
    assert not any(learns.learn(asked, took) for took in (1000.0, 10.0) * STAYS)
    assert 80.0 <= learns.entry().typical_units(asked) <= 125.0


def test_what_was_no_measurement_changes_nothing() -> None:
    learns = Calibration.begin(CostEntry())
    assert not any(learns.learn(spec(), took) for took in (0.0, -5.0, math.nan, math.inf))
    assert learns.jobs == 0


def test_what_is_kept_goes_on_as_if_nothing_had_happened() -> None:
    learns = calibrated(small_machine, 120, noise=0.2)
    again = Calibration.from_document(json.loads(json.dumps(learns.to_document())))
    assert again == learns
    for _ in range(20):
        assert again.learn(spec(steps=4), 500.0) == learns.learn(spec(steps=4), 500.0)
    assert again.entry() == learns.entry()


def test_what_was_kept_of_other_kinds_of_work_is_refused() -> None:
    document = calibrated(small_machine, 5).to_document()
    document["fit"]["values"] = document["fit"]["values"][:-1]
    with pytest.raises(ValueError, match="other kinds"):
        Calibration.from_document(document)
