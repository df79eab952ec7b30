"""Which member of a cluster is in use; nothing here connects."""

from __future__ import annotations

import pytest

from libs.coordination.members import Members


async def test_calls_that_fail_together_move_on_by_one() -> None:
    members = Members(["127.0.0.1:1", "http://127.0.0.1:2", "https://127.0.0.1:3"], None)
    first = members.current()
    members.move_on(first)
    second = members.current()
    members.move_on(first)  # the other call that failed on it
    assert members.current() is second is not first
    members.move_on(second)
    members.move_on(members.current())
    assert members.current() is first
    await members.close()


async def test_no_endpoint_is_refused() -> None:
    with pytest.raises(ValueError, match="endpoint"):
        Members([], None)
