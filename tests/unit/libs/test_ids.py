from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from libs.ids import new_job_id, new_key_id, new_ulid

TIMES = st.floats(0, 2**47 / 1000, allow_nan=False)


@given(TIMES, TIMES)
def test_ids_sort_by_time(one: float, other: float) -> None:
    if int(one * 1000) == int(other * 1000):
        return
    assert (new_ulid(one) < new_ulid(other)) is (one < other)


@given(TIMES)
def test_ids_have_the_published_form(now_s: float) -> None:
    assert re.fullmatch(r"job_[0-9A-HJKMNP-TV-Z]{26}", new_job_id(now_s))


def test_ids_of_one_moment_differ() -> None:
    assert len({new_ulid(1.0) for _ in range(1000)}) == 1000
    assert new_key_id().startswith("key_")
