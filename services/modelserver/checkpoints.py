"""Checkpoints on their way between a drawing and the blob store: when one pays, kept, fetched, removed.

    engine asks `due` → hands bytes over → `keep` (event loop) → stored beside the drawing → Checkpointed is posted
    an order with `resume_from` → `fetch` before it is admitted → `Request.checkpoint`
    the attempt has its outcome → `over`

What the worker has to do, all of it on the event loop:

    data = await checkpoints.fetch(order)                 before the request goes to the engine; b"": from the start
    checkpoints.keep(attempt, step, total, data)          for each `Reports.checkpoint`
    checkpoints.over(attempt)                             once, after its final event was posted
    await checkpoints.close()                             after the drain

Drawing never waits for any of it: one upload at a time per attempt, and of those that come meanwhile the latest wins.
The last two are kept: whoever reads the announcements may die between the last one and its commit. The end of
an attempt removes none, however good: it may be an orphan, and they its successor's. The scheduler removes them when the
job ends. The store is gone: drawing goes on without checkpoints, a resumed job starts over.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

from libs.blobs.store import BlobStore, checkpoint_folder, checkpoint_key
from libs.errors import DarkroomError
from libs.generation.attempt import Checkpointed
from services.modelserver.attempt import Attempt, Key, Order

logger = logging.getLogger(__name__)

MOST_BYTES = 512 * 2**20  # of one checkpoint
FETCH_S = 10.0  # then drawing anew is the better use of the time
_KEPT = 2
_CONTENT_TYPE = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class CheckpointPolicy:
    """How much work may be lost.

    A checkpoint is begun after half of `every_steps`, so that there is the other half to carry it away, or after
    `every_s` seconds; never when less than `worth_s` seconds of work would be saved or are left.
    """

    every_steps: int = 20
    every_s: float = 10.0
    worth_s: float = 2.0


def due(policy: CheckpointPolicy, step: int, total: int, since_s: float, eta_s: float) -> bool:
    """Return whether to make a checkpoint after `step`.

    `since_s` seconds were drawn since the last one or since the beginning, `eta_s` are left.
    """
    if step >= total or eta_s < policy.worth_s or since_s < min(policy.worth_s, policy.every_s):
        return False
    return step % max(1, policy.every_steps // 2) == 0 or since_s >= policy.every_s


@dataclass(slots=True, eq=False)
class _Line:
    """The checkpoints of one attempt: what waits to be stored, what is stored, and who stores."""

    attempt: Attempt
    stored: list[str] = field(default_factory=list)  # keys, oldest first
    waiting: tuple[int, int, bytes] | None = None
    task: asyncio.Task[None] | None = None


class Checkpoints:
    """Carries the checkpoints of this worker's attempts. Event loop only."""

    def __init__(self, blobs: BlobStore) -> None:
        self._blobs = blobs
        self._lines: dict[Key, _Line] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def fetch(self, order: Order) -> bytes:
        """Return the checkpoint to go on from; empty when there is none or it does not come in time."""
        ref = order.resume_from
        if not ref:
            return b""
        extra: dict[str, object] = {"job_id": order.job_id, "attempt": order.attempt, "checkpoint": ref}
        try:
            if not ref.startswith(checkpoint_folder(order.job_id) + "/"):
                raise ValueError("it is not of this job")
            async with asyncio.timeout(FETCH_S):
                data = await self._read(ref)
        except (DarkroomError, ValueError, TimeoutError) as error:
            cause = str(error) or type(error).__name__
            logger.warning("no checkpoint to go on from, starting over", extra=extra | {"cause": cause})
            return b""
        logger.info("checkpoint fetched", extra=extra | {"bytes": len(data)})
        return data

    def keep(self, attempt: Attempt, step: int, total: int, data: bytes) -> None:
        """Store a checkpoint and announce it, soon or never; one that still waits gives way to it."""
        if attempt.outcome is not None:
            return
        if len(data) > MOST_BYTES:
            logger.warning("checkpoint too large", extra=_fields(attempt, step) | {"bytes": len(data)})
            return
        order = attempt.order
        line = self._lines.get(order.key)
        if line is None:
            line = self._lines[order.key] = _Line(attempt, [order.resume_from] if order.resume_from else [])
        line.waiting = (step, total, data)
        if line.task is None:
            line.task = self._begin(self._store_waiting(line))

    def over(self, attempt: Attempt) -> None:
        """Forget an attempt that has its outcome."""
        line = self._lines.pop(attempt.order.key, None)
        if line is not None:
            line.waiting = None

    async def close(self) -> None:
        """Let what is being stored or removed finish."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _store_waiting(self, line: _Line) -> None:
        while line.waiting is not None:
            (step, total, data), line.waiting = line.waiting, None
            await self._store(line, step, total, data)
        line.task = None

    async def _store(self, line: _Line, step: int, total: int, data: bytes) -> None:
        key = checkpoint_key(line.attempt.order.job_id, line.attempt.order.attempt, step)
        if key in line.stored:
            return
        try:
            await self._blobs.put(key, data, _CONTENT_TYPE)
        except (DarkroomError, ValueError) as error:
            logger.warning("checkpoint not stored", extra=_fields(line.attempt, step) | {"cause": str(error)})
            return
        if line.attempt.outcome is not None:  # nobody was told of it, and nobody will be
            await self._remove(key)
            return
        line.stored.append(key)
        line.attempt.post(Checkpointed(key, step, total))
        while len(line.stored) > _KEPT:
            await self._remove(line.stored.pop(0))

    async def _remove(self, key: str) -> None:
        try:
            await self._blobs.delete(key)
        except DarkroomError as error:  # the scheduler removes it with the job
            logger.info("checkpoint not removed", extra={"checkpoint": key, "cause": error.message})

    async def _read(self, ref: str) -> bytes:
        if await self._blobs.head(ref) > MOST_BYTES:
            raise ValueError("it is too large")
        return b"".join([chunk async for chunk in self._blobs.get_stream(ref)])


def _fields(attempt: Attempt, step: int) -> dict[str, object]:
    return {"job_id": attempt.order.job_id, "attempt": attempt.order.attempt, "step": step}
