"""The batch table: what it answers from measurements, how it bears noise, how it is kept."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.modelserver.engine.batch_table import BadTable, BatchTable, TableKey

KEY = TableKey("shapes@1", "denoise", "128x128")
# Seconds of one forward: the shipped model on two cores, and a 20-billion DiT at 1024² (serving.md §2a).
SMALL = {1: 0.014, 2: 0.019, 4: 0.027, 8: 0.039, 16: 0.063, 32: 0.114}
LARGE = {1: 0.243, 2: 0.474, 3: 0.711}
SAMPLES = st.lists(st.tuples(st.integers(1, 64), st.floats(1e-4, 1e3), st.integers(0, 10**12)), min_size=1, max_size=30)


def table_of(times: Mapping[int, float], key: TableKey = KEY) -> BatchTable:
    table = BatchTable("cpu")
    for rows, seconds in times.items():
        table.record(key, rows, seconds)
    return table


def filled(samples: list[tuple[int, float, int]], key: TableKey = KEY) -> BatchTable:
    table = BatchTable("GPU-1", build="b1")
    for rows, seconds, peak in samples:
        table.record(key, rows, seconds, peak)
    return table


def by_curve(times: Mapping[int, float]) -> Callable[[int], float]:
    known = sorted(times)

    def seconds(rows: int) -> float:
        low = max((n for n in known if n <= rows), default=known[0])
        high = min((n for n in known if n > low), default=2 * low)
        rise = (times.get(high, 2 * times[low]) - times[low]) / (high - low)
        return times[low] + rise * (rows - low)

    return seconds


@pytest.mark.parametrize(("most", "best"), [(1, 1), (3, 3), (12, 12), (16, 16), (17, 16), (64, 16)])
def test_rows_are_added_while_doubling_them_raises_the_throughput_by_the_gain(most: int, best: int) -> None:
    assert table_of(SMALL).best_rows(KEY, most) == best


def test_a_device_that_one_row_fills_gets_one() -> None:
    assert table_of(LARGE).best_rows(KEY, 64) == 1


def test_between_two_doublings_half_the_way_may_pay() -> None:
    cliff = {1: 1.0, 2: 1.1, 4: 1.3, 6: 1.5, 8: 4.0}
    assert table_of(cliff).best_rows(KEY, 64) == 6


def test_what_was_never_measured_is_tried_step_by_step() -> None:
    table = BatchTable("cpu")
    assert table.best_rows(KEY, 24) == 24
    tried = []
    for _ in range(4):
        table.record(KEY, 1 if not tried else tried[-1], SMALL[1 if not tried else tried[-1]])
        tried.append(table.best_rows(KEY, 64))
    assert tried == [2, 4, 8, 16]


def test_a_size_never_drawn_begins_with_what_pays_at_the_next_smaller_one() -> None:
    table = table_of(SMALL)
    assert table.best_rows(TableKey("shapes@1", "denoise", "256x256"), 64) == 16
    assert table.best_rows(TableKey("shapes@1", "denoise", "64x64"), 64) == 64
    assert table.best_rows(TableKey("shapes@1", "decode", "256x256"), 64) == 64
    assert table.best_rows(TableKey("other@1", "denoise", "256x256"), 64) == 64


def test_room_does_not_dip_while_fewer_rows_are_tried() -> None:
    table, tries = table_of(SMALL), 0
    for _ in range(200):
        rows = table.best_rows(KEY, 64)
        tries += rows < 16
        assert table.room(KEY, 64) >= 16
        assert table.room(KEY, 5) == 5
        table.record(KEY, rows, by_curve(SMALL)(rows))
    assert tries > 0
    assert table.room(TableKey("shapes@1", "denoise", "256x256"), 64) == 16


@pytest.mark.parametrize("unit", [1, 2, 3, 5, 6, 8, 12])
def test_requests_of_several_rows_find_what_pays_too(unit: int) -> None:
    seconds, table, ran = by_curve(SMALL), BatchTable("cpu"), []
    for _ in range(200):
        ran.append(max(1, table.best_rows(KEY, 64) // unit) * unit)
        table.record(KEY, ran[-1], seconds(ran[-1]))
    assert sum(12 <= rows <= 24 for rows in ran[30:]) > 150


@pytest.mark.parametrize("rows", [1, 2, 8, 16])
def test_a_slow_first_sample_spoils_the_answer_for_a_while_only(rows: int) -> None:
    seconds, table = by_curve(SMALL), table_of({**SMALL, rows: 20 * SMALL[rows]})
    for _ in range(100):
        now = table.best_rows(KEY, 32)
        table.record(KEY, now, seconds(now))
    later = {table.best_rows(KEY, 32) for _ in range(3)}
    assert later == {16}


def test_a_machine_that_was_busy_while_it_was_measured_is_measured_again() -> None:
    seconds, table = by_curve(SMALL), table_of({**SMALL, 32: 1.5 * SMALL[32]})
    for _ in range(9):
        table.record(KEY, 16, 1.6 * SMALL[16])
    assert table.best_rows(KEY, 16) < 16
    for _ in range(600):
        now = table.best_rows(KEY, 16)
        table.record(KEY, now, seconds(now))
    assert {table.best_rows(KEY, 16) for _ in range(3)} == {16}


def test_one_size_thought_too_slow_hides_no_larger_one() -> None:
    seconds, table = by_curve(SMALL), table_of(SMALL)
    for _ in range(40):
        now = table.best_rows(KEY, 16)
        table.record(KEY, now, seconds(now))
    for _ in range(5):
        table.record(KEY, 8, 2 * SMALL[8])
    assert table.best_rows(KEY, 16) == 16


def test_fewer_rows_are_tried_where_more_never_come_together() -> None:
    """Decoding on two cores: two pictures together pay, eight do not, and there are never more than eight."""
    costs = {1: 0.018, 2: 0.026, 4: 0.060, 8: 0.180}
    table, seconds = BatchTable("cpu"), by_curve(costs)
    for _ in range(100):
        rows = min(8, table.best_rows(KEY, 16))
        table.record(KEY, rows, seconds(rows))
    assert table.best_rows(KEY, 16) == 2


def test_one_outlier_changes_nothing() -> None:
    table = table_of(SMALL)
    for _ in range(5):
        table.record(KEY, 16, SMALL[16])
    version = table.version
    for outlier in (100 * SMALL[16], SMALL[16] / 100):
        table.record(KEY, 16, outlier)
        assert table.seconds(KEY, 16) == pytest.approx(SMALL[16])
        for _ in range(5):
            table.record(KEY, 16, SMALL[16])
    assert table.version == version


def test_a_device_that_became_slower_is_believed() -> None:
    table = table_of(SMALL)
    for _ in range(60):
        table.record(KEY, 16, 4 * SMALL[16])
    assert table.seconds(KEY, 16) == pytest.approx(4 * SMALL[16], rel=0.1)


@pytest.mark.parametrize("gain", [0.05, 0.12, 0.14, 0.15, 0.16, 0.2])
@pytest.mark.parametrize("seed", range(3))
def test_noise_does_not_make_the_answer_flap(gain: float, seed: int) -> None:
    """Every doubling gains just about what is asked for, and every time is off by some 5 %, one in a hundred five-fold."""
    noise, table = random.Random(seed), BatchTable("cpu")
    answers = []
    for _ in range(1500):
        rows = table.best_rows(KEY, 32)
        answers.append(rows)
        seconds = 0.01 * rows / (1 + gain) ** (rows.bit_length() - 1)
        table.record(KEY, rows, seconds * noise.gauss(1, 0.05) * (5 if noise.random() < 0.01 else 1))
    late = answers[500:]
    changes = sum(before != now for before, now in itertools.pairwise(late))
    assert (
        changes <= 36
    )  # of 1000; a try is two of them, and every 128 passes may have one of more rows and one of less


@settings(deadline=None)
@given(SAMPLES, st.integers(1, 100))
def test_answers_keep_their_bounds_whatever_was_measured(samples: list[tuple[int, float, int]], most: int) -> None:
    table = filled(samples)
    assert 1 <= table.best_rows(KEY, most) <= most
    assert 1 <= table.room(KEY, most) <= most
    times = [table.seconds(KEY, rows) for rows in range(1, 130)]
    assert all(time is not None and time > 0 for time in times)
    assert all(later >= earlier * (1 - 1e-9) for earlier, later in itertools.pairwise(times))
    peaks = [table.peak_bytes(KEY, rows) or 0 for rows in range(1, 130)]
    if any(peak for _, _, peak in samples):
        assert peaks == sorted(peaks)
        fitting = table.most_rows_within(KEY, 10**9, most)
        assert fitting == sum(peak <= 10**9 for peak in peaks[:most])
    else:
        assert set(peaks) == {0}
        assert table.most_rows_within(KEY, 0, most) == most


@settings(deadline=None)
@given(SAMPLES)
def test_it_comes_back_as_it_was_stored(samples: list[tuple[int, float, int]]) -> None:
    table = filled(samples)
    back = BatchTable.from_json(table.to_json(), "GPU-1", build="b1")
    assert back.to_json() == table.to_json()
    assert back.version == table.version
    for rows in (1, 7, 64, 100):
        assert back.seconds(KEY, rows) == table.seconds(KEY, rows)
        assert back.peak_bytes(KEY, rows) == table.peak_bytes(KEY, rows)


def test_one_sample_a_size_says_exactly_that() -> None:
    table = table_of(SMALL)
    assert [table.seconds(KEY, rows) for rows in SMALL] == pytest.approx(list(SMALL.values()))
    assert table.seconds(KEY, 12) == pytest.approx(0.051)
    assert table.seconds(KEY, 64) == pytest.approx(0.216, rel=0.01)
    assert table.seconds(TableKey("shapes@1", "decode", "128x128"), 1) is None
    for nonsense in (0.0, -1.0, float("nan"), float("inf")):
        table.record(KEY, 1, nonsense)
    assert table.seconds(KEY, 1) == SMALL[1]


def test_memory_is_foreseen_at_least_in_proportion_to_rows_and_pixels() -> None:
    table = BatchTable("cpu")
    large = TableKey("shapes@1", "denoise", "256x256")
    assert table.peak_bytes(KEY, 1) is None
    table.record(KEY, 2, 0.1, 1000)
    assert [table.peak_bytes(KEY, rows) for rows in (1, 2, 4)] == [1000, 1000, 2000]
    table.record(KEY, 4, 0.1, 2600)
    assert [table.peak_bytes(KEY, rows) for rows in (3, 4, 6)] == [1800, 2600, 4200]
    assert table.peak_bytes(large, 2) == 4000
    assert table.most_rows_within(large, 10_400, 64) == 4
    assert table.most_rows_within(KEY, 999, 64) == 0


def test_the_largest_size_that_fits_counts_every_stage() -> None:
    table = BatchTable("cpu")
    for bucket, denoise, decode in (("128x128", 100, 500), ("256x128", 200, 700), ("512x512", 300, 5000)):
        table.record(TableKey("shapes@1", "denoise", bucket), 2, 0.1, denoise)
        table.record(TableKey("shapes@1", "decode", bucket), 1, 0.1, decode)
    table.record(TableKey("other@1", "denoise", "4096x4096"), 1, 0.1, 1)
    assert table.largest_size("shapes@1", 2, 1000) == "256x128"
    assert table.largest_size("shapes@1", 8, 700) == "128x128"
    assert table.largest_size("shapes@1", 2, 99) is None
    assert table.largest_size("gone@1", 1, 10**9) is None


def test_it_is_kept_on_disk_for_its_device_and_build(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "table.json"
    assert BatchTable.load(file, "cpu").version == 0
    table_of(SMALL).save(file)
    assert BatchTable.load(file, "cpu").best_rows(KEY, 64) == 16
    assert not caplog.records
    for device, build in (("GPU-1", ""), ("cpu", "b2")):
        table_of(SMALL).save(file)
        assert BatchTable.load(file, device, build=build).seconds(KEY, 1) is None
        assert not file.exists()
        assert (tmp_path / "table.json.aside").exists()
    assert len(caplog.records) == 2


def broken(**changes: object) -> str:
    return json.dumps({**json.loads(table_of(SMALL).to_json()), **changes})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[" * 3000,
        "[]",
        "{}",
        broken(format=2),
        broken(version=-1),
        broken(curves=[{}]),
        broken(curves=[{"model": "m", "stage": "denoise", "bucket": "8x8", "settled": 1, "sizes": []}]),
        broken(curves=[{"model": "m", "stage": "denoise", "bucket": "8x8", "settled": 1, "sizes": [[1, -1.0, 1, 0]]}]),
        broken(curves=[{"model": "m", "stage": "denoise", "bucket": "8x8", "settled": 0, "sizes": [[1, 1.0, 1, 0]]}]),
    ],
)
def test_a_broken_table_is_set_aside(text: str, tmp_path: Path) -> None:
    with pytest.raises(BadTable):
        BatchTable.from_json(text, "cpu")
    file = tmp_path / "table.json"
    file.write_text(text)
    assert BatchTable.load(file, "cpu").version == 0
    assert (tmp_path / "table.json.aside").read_text() == text


def test_it_remembers_the_kinds_that_were_drawn_last() -> None:
    table = BatchTable("cpu")
    for number in range(1100):
        table.record(KEY, 1, 0.1)
        table.record(TableKey(f"m{number}@1", "denoise", "8x8"), 1, 0.1)
    assert table.seconds(KEY, 1) == 0.1
    assert table.seconds(TableKey("m0@1", "denoise", "8x8"), 1) is None
    assert len(json.loads(table.to_json())["curves"]) == 1024


def test_the_sizes_that_were_measured_are_named_the_latest_first() -> None:
    table = BatchTable("cpu")
    for key in (KEY, replace(KEY, bucket="64x64"), replace(KEY, stage="decode"), replace(KEY, model="n@1"), KEY):
        table.record(key, 1, 0.1)
    assert table.known(KEY.model, KEY.stage) == [KEY, replace(KEY, bucket="64x64")]
