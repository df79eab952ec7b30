"""Group commit: who goes together, when each is answered, and who fails with whom."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from libs.errors import Unavailable
from services.scheduler.storage.group_commit import GroupCommit
from services.scheduler.storage.store import Contended, StoreUnavailable


class Disk:
    """Commits that wait for the test to let them through."""

    def __init__(self) -> None:
        self.groups: list[list[str]] = []
        self.begun = asyncio.Event()
        self.gate = asyncio.Event()
        self.away = False

    async def commit(self, items: Sequence[str]) -> list[str]:
        self.groups.append(list(items))
        self.begun.set()
        await self.gate.wait()
        if self.away:
            raise StoreUnavailable("away")
        if any(item.startswith("bad") for item in items):
            raise ValueError("bad item")
        return [item.upper() for item in items]


@pytest.fixture
def disk() -> Disk:
    return Disk()


async def submitted(commits: GroupCommit[str, str], *items: str) -> list[asyncio.Task[str]]:
    """Submit each item in its own task, and return when all wait."""
    tasks = [asyncio.create_task(commits.submit(item)) for item in items]
    await asyncio.sleep(0)  # each task runs up to its wait
    return tasks


async def test_nobody_is_answered_before_the_commit(disk: Disk) -> None:
    (task,) = await submitted(GroupCommit(disk.commit), "a")
    await disk.begun.wait()
    assert not task.done()
    disk.gate.set()
    assert await task == "A"


async def test_what_arrives_during_a_commit_goes_with_the_next_in_order(disk: Disk) -> None:
    commits = GroupCommit(disk.commit, max_batch=3)
    first = await submitted(commits, "a")
    await disk.begun.wait()
    others = await submitted(commits, "b", "c", "d", "e")
    disk.gate.set()
    assert await asyncio.gather(*first, *others) == ["A", "B", "C", "D", "E"]
    assert disk.groups == [["a"], ["b", "c", "d"], ["e"]]


async def test_a_full_queue_refuses_with_a_time_and_keeps_what_it_has(disk: Disk) -> None:
    commits = GroupCommit(disk.commit, capacity=2)
    (first,) = await submitted(commits, "a")
    await disk.begun.wait()
    waiting = await submitted(commits, "b", "c")
    with pytest.raises(Unavailable) as refused:
        await commits.submit("d")
    assert refused.value.reason == "QUEUE_FULL"
    assert refused.value.retry_after_s
    disk.gate.set()
    assert await asyncio.gather(first, *waiting) == ["A", "B", "C"]
    assert await commits.submit("d") == "D"


async def test_a_bad_one_fails_alone(disk: Disk) -> None:
    disk.gate.set()
    tasks = await submitted(GroupCommit(disk.commit), "a", "bad", "c")
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert [answers[0], type(answers[1]), answers[2]] == ["A", ValueError, "C"]


async def test_when_the_store_is_away_all_that_wait_hear_at_once_and_later_ones_are_tried(disk: Disk) -> None:
    commits = GroupCommit(disk.commit, max_batch=1)
    disk.away = True
    tasks = await submitted(commits, "a", "b", "c")
    disk.gate.set()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(answer) for answer in answers] == [StoreUnavailable] * 3
    assert disk.groups == [["a"]]
    disk.away = False
    assert await commits.submit("d") == "D"


async def test_being_away_while_committing_one_by_one_ends_the_rest_too(disk: Disk) -> None:
    tries = 0

    async def commit(items: Sequence[str]) -> list[str]:
        nonlocal tries
        tries += 1
        raise ValueError("bad group") if len(items) > 1 else StoreUnavailable("away")

    answers = await asyncio.gather(*await submitted(GroupCommit(commit), "a", "b", "c"), return_exceptions=True)
    assert [type(answer) for answer in answers] == [StoreUnavailable] * 3
    assert tries == 2


async def test_of_a_group_whose_rows_another_process_keeps_only_those_fail(disk: Disk) -> None:
    async def commit(items: Sequence[str]) -> list[str]:
        if "kept" in items:
            raise Contended("kept")
        return await disk.commit(items)

    disk.gate.set()
    tasks = await submitted(GroupCommit(commit, max_batch=3), "a", "kept", "c", "behind")
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert [answers[0], type(answers[1]), *answers[2:]] == ["A", Contended, "C", "BEHIND"]


async def test_when_another_process_keeps_whatever_is_asked_for_not_each_waits_for_it() -> None:
    tries = 0

    async def commit(_: Sequence[str]) -> list[str]:
        nonlocal tries
        tries += 1
        raise Contended("kept")

    tasks = await submitted(GroupCommit(commit, max_batch=20), *map(str, range(40)))
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(answer) for answer in answers] == [Contended] * 40
    assert tries == 5


async def test_what_was_too_much_at_once_comes_in_halves_and_grows_again(disk: Disk) -> None:
    commits = GroupCommit(disk.commit, max_batch=32)
    disk.gate.set()
    disk.away = True
    await asyncio.gather(*await submitted(commits, *"a" * 32), return_exceptions=True)
    await asyncio.gather(*await submitted(commits, *"b" * 24), return_exceptions=True)
    disk.away = False
    await asyncio.gather(*await submitted(commits, *"c" * 80))
    assert [len(group) for group in disk.groups] == [32, 16, 8, 16, 24, 32]


async def test_a_caller_that_left_before_its_turn_is_not_committed(disk: Disk) -> None:
    commits = GroupCommit(disk.commit)
    (first,) = await submitted(commits, "a")
    await disk.begun.wait()
    gone, stays = await submitted(commits, "b", "c")
    gone.cancel()
    disk.gate.set()
    assert [await first, await stays] == ["A", "C"]
    assert disk.groups == [["a"], ["c"]]


async def test_a_caller_that_leaves_during_its_commit_disturbs_nobody(disk: Disk) -> None:
    commits = GroupCommit(disk.commit)
    gone, stays = await submitted(commits, "a", "b")
    await disk.begun.wait()
    gone.cancel()
    disk.gate.set()
    assert await stays == "B"


async def test_closing_waits_for_what_was_submitted(disk: Disk) -> None:
    commits = GroupCommit(disk.commit)
    tasks = await submitted(commits, "a", "b")
    closing = asyncio.create_task(commits.close())
    disk.gate.set()
    await closing
    assert await asyncio.gather(*tasks) == ["A", "B"]
    assert disk.groups == [["a", "b"]]
