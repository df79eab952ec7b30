"""Which days and parts a caller's words mean, and what is said of wrong ones."""

from __future__ import annotations

from datetime import date

import pytest

from libs.errors import InvalidRequest
from services.gateway.accounts import usage_query
from services.gateway.accounts.usage_query import UsageQuery

NOW_S = 1_700_000_000.0  # 2023-11-14


def read(from_text: str = "", to_text: str = "", *by: str) -> UsageQuery:
    return usage_query.read(from_text, to_text, by, NOW_S)


def test_what_is_left_open_is_the_last_thirty_days_by_day():
    assert read() == UsageQuery(date(2023, 10, 16), date(2023, 11, 14), ("day",))
    assert read(to_text="2023-03-01") == UsageQuery(date(2023, 1, 31), date(2023, 3, 1), ("day",))
    assert read("2023-11-01").to_day == date(2023, 11, 14)
    assert read(to_text="0001-01-05").from_day == date.min


@pytest.mark.parametrize("by", [("model", "day"), ("model,day",), (" model , ", "day", "")])
def test_parts_come_one_by_one_or_with_commas_in_their_order(by: tuple[str, ...]):
    assert read("", "", *by).by == ("model", "day")


@pytest.mark.parametrize(
    ("asked", "fields"),
    [
        (("yesterday", "2023-02-30", "week"), ["by", "from", "to"]),
        (("20231101",), ["from"]),
        (("2023-W45-1",), ["from"]),
        (("2023-11-1", "2023-11-14T00:00"), ["from", "to"]),
        (("", "", "day", "day"), ["by"]),
        (("", "", "tenant"), ["by"]),
        (("2023-11-15",), ["from"]),
        (("2023-11-02", "2023-11-01"), ["from"]),
        (("2023-01-01", "2023-04-04"), ["from"]),
    ],
)
def test_all_that_is_wrong_is_named_at_once(asked: tuple[str, ...], fields: list[str]):
    with pytest.raises(InvalidRequest, match="cannot be read") as caught:
        read(*asked)
    assert [violation.field for violation in caught.value.violations] == fields


def test_a_quarter_is_told_at_once():
    assert read("2023-01-01", "2023-04-03").to_day == date(2023, 4, 3)
