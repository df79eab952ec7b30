from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from libs.generation.monotone import orderly
from libs.generation.work import Bucket

BUCKETS = st.builds(Bucket, st.sampled_from(("text", "image")), st.integers(10, 16), st.integers(0, 5))
MEASURED = st.dictionaries(BUCKETS, st.tuples(st.floats(0.01, 100.0), st.integers(1, 500)), max_size=20)


@given(MEASURED)
def test_nothing_falls_from_a_class_to_one_that_it_is_within(measured: dict[Bucket, tuple[float, int]]) -> None:
    found = orderly(measured)
    assert found.keys() == measured.keys()
    for low in found:
        for high in found:
            if low.within(high):
                assert found[low] <= found[high] * (1 + 1e-9)


@given(MEASURED)
def test_what_is_in_order_stays_and_nothing_leaves_the_range_of_its_kind(
    measured: dict[Bucket, tuple[float, int]],
) -> None:
    found = orderly(measured)
    again = orderly({bucket: (ratio, 1) for bucket, ratio in found.items()})
    for bucket, ratio in found.items():
        of_kind = [value for other, (value, _) in measured.items() if other.kind == bucket.kind]
        assert min(of_kind) * (1 - 1e-9) <= ratio <= max(of_kind) * (1 + 1e-9)
        assert abs(again[bucket] / ratio - 1) < 1e-6


def test_of_two_that_contradict_each_other_the_one_that_was_measured_more_often_counts_more() -> None:
    small, large = Bucket("text", 14, 3), Bucket("text", 16, 3)
    found = orderly({small: (2.0, 99), large: (1.0, 1)})
    assert found[small] == found[large] > 1.95
