"""Many waiters, one commit: what arrives while a commit runs goes with the next one. No timer."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from libs.errors import Unavailable
from services.scheduler.storage.store import Contended, StoreUnavailable

T = TypeVar("T")
R = TypeVar("R")

CAPACITY = 2048
MAX_BATCH = 256
RETRY_AFTER_S = 1.0
_GROWTH = 8  # how many more go together after each commit, once that had to be fewer
_CONTENDED_IN_A_ROW = 4  # then it is not only the rows of these, and those behind would find out the same
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Waiting(Generic[T, R]):
    item: T
    answer: asyncio.Future[R]


class GroupCommit(Generic[T, R]):
    """Commits what is submitted in groups; a waiter is answered only after the commit of its group.

    `commit` commits a group whole or not at all and returns one answer an item. When it raises, each item is
    committed alone, so that a bad one fails by itself, and one whose rows another process keeps too; StoreUnavailable
    fails all that wait. A group that was too much for the time there is must not come again as large: after
    StoreUnavailable at most half as many go together, and a few more after each commit.
    """

    def __init__(
        self,
        commit: Callable[[Sequence[T]], Awaitable[Sequence[R]]],
        capacity: int = CAPACITY,
        max_batch: int = MAX_BATCH,
    ) -> None:
        self._commit = commit
        self._capacity = capacity
        self._max_batch = max_batch
        self._together = max_batch
        self._contended = 0  # commits in a row
        self._waiting: deque[_Waiting[T, R]] = deque()
        self._running: asyncio.Task[None] | None = None

    async def submit(self, item: T, *, refusable: bool = True) -> R:
        """Return the answer for `item` once it is committed; raises Unavailable (QUEUE_FULL) when too many wait.

        One that is not refusable comes from inside, where there are never more than attempts run, and always waits.
        """
        if refusable and len(self._waiting) >= self._capacity:
            raise Unavailable(
                "Too many jobs are being accepted at once. Nothing was kept or charged; try again shortly.",
                reason="QUEUE_FULL",
                retry_after_s=RETRY_AFTER_S,
            )
        answer: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        waiting = _Waiting(item, answer)
        self._waiting.append(waiting)
        if self._running is None:
            self._running = asyncio.create_task(self._run(), name="group-commit")
        return await answer

    async def close(self) -> None:
        """Return when everything submitted so far is answered."""
        while self._running is not None:
            await asyncio.wait([self._running])

    async def _run(self) -> None:
        group: list[_Waiting[T, R]] = []
        try:
            while self._waiting:
                group = self._next_group()
                try:
                    await self._answer(group)
                    self._together = min(self._max_batch, self._together + _GROWTH)
                except StoreUnavailable as error:
                    self._together, self._contended = max(1, len(group) // 2), 0
                    # Those behind would only find out the same, one timeout after the other.
                    self._fail([*group, *self._waiting], error)
                    self._waiting.clear()
        finally:
            self._running = None
            for waiting in (*group, *self._waiting):
                waiting.answer.cancel()  # changes only what was left open because this task was cancelled
            self._waiting.clear()

    def _next_group(self) -> list[_Waiting[T, R]]:
        taken = [self._waiting.popleft() for _ in range(min(self._together, len(self._waiting)))]
        return [waiting for waiting in taken if not waiting.answer.done()]  # done: its caller has gone

    async def _answer(self, group: Sequence[_Waiting[T, R]]) -> None:
        if not group:
            return
        try:
            answers = await self._commit([waiting.item for waiting in group])
        except Contended as error:
            self._contended += 1
            if self._contended > _CONTENDED_IN_A_ROW:
                raise
            await self._answer_singly(group, error)
        except StoreUnavailable:
            raise
        except Exception as error:  # noqa: BLE001 - this task owns its waiters: each must hear
            await self._answer_singly(group, error)
        else:
            self._contended = 0
            for waiting, answer in zip(group, answers, strict=True):
                if not waiting.answer.done():
                    waiting.answer.set_result(answer)

    async def _answer_singly(self, group: Sequence[_Waiting[T, R]], error: Exception) -> None:
        if len(group) == 1:
            self._fail(group, error)  # the caller logs it; drivers put values, prompts too, into their messages
            return
        _log.warning("commit in singles", extra={"group": len(group), "error": type(error).__name__})
        for waiting in group:
            await self._answer([waiting])

    @staticmethod
    def _fail(group: Sequence[_Waiting[T, R]], error: Exception) -> None:
        for waiting in group:
            if not waiting.answer.done():
                waiting.answer.set_exception(error)
