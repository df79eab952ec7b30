"""The classes that requests are measured in."""

from __future__ import annotations

from libs.generation.work import doublings


def test_a_class_ends_at_a_power_of_two() -> None:
    assert [doublings(count) for count in (0, 1, 2, 3, 4, 5, 8, 9)] == [0, 0, 1, 2, 2, 3, 3, 4]
    assert [doublings(side * side) for side in (512, 1024)] == [18, 20]
