"""From pixels to pictures that others can fetch: encode, put into the blob store, then say so.

Pictures are encoded by a few threads of their own and stored as each is ready. What the store does not take now is
held in memory and tried again; meanwhile the worker takes nothing new, so what is held stays within what it draws.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from libs.backoff import Backoff
from libs.blobs.store import BlobStore, image_key
from libs.clock import Clock
from libs.errors import DarkroomError, DeadlinePassed, Unavailable
from libs.generation.attempt import FailureKind, ImageStored, StageDone
from services.modelserver.attempt import Attempt
from services.modelserver.encoding import Encoded, encode, encode_preview
from services.modelserver.engine.protocol import Drawing, Pixels
from services.modelserver.events import Done, Failed, Preview
from services.modelserver.safety import Checker, show_pictures

logger = logging.getLogger(__name__)

T = TypeVar("T")

PATIENCE_S = 600.0  # how long a result is held for a store that does not answer
SPOOL_BYTES = 512 * 2**20  # how much is held; what comes on top fails
ENCODERS = 2  # threads; encoding lets the interpreter go
_FIRST_WAIT_S, _MOST_WAIT_S = 0.2, 10.0
_NOT_STORED = Failed(FailureKind.TRANSIENT, "INTERNAL", "The pictures were not stored. Nothing was charged.")
_LEFT = Failed(FailureKind.DRAINING, "DRAINING", "The worker goes away and could not store the pictures.")


class Delivery:
    """Runs beside the device thread, so that it can draw meanwhile. Event loop only.

    `on_change` is called when `held_up` changes, `on_end` with each attempt whose pictures are stored or given up.
    """

    def __init__(
        self,
        blobs: BlobStore,
        checker: Checker,
        clock: Clock,
        *,
        patience_s: float = PATIENCE_S,
        spool_bytes: int = SPOOL_BYTES,
    ) -> None:
        self._blobs, self._checker, self._clock = blobs, checker, clock
        self._patience_s, self._spool_bytes = patience_s, spool_bytes
        self._encoders = ThreadPoolExecutor(ENCODERS, thread_name_prefix="encode")
        self._held: dict[int, int] = {}  # bytes of what the store did not take, by identity
        self._leaving = asyncio.Event()
        self._sending: dict[asyncio.Task[None], tuple[Attempt, float]] = {}  # with its milliseconds
        self._showing: set[asyncio.Task[None]] = set()
        self.on_change: Callable[[], None] = lambda: None
        self.on_end: Callable[[Attempt], None] = lambda _attempt: None

    @property
    def busy(self) -> bool:
        """Return whether pictures are on their way."""
        return bool(self._sending)

    @property
    def held_up(self) -> bool:
        """Return whether results are held here because the store does not answer."""
        return bool(self._held)

    def send(self, attempt: Attempt, drawing: Drawing) -> None:
        """Deliver pictures in a task of their own; it ends the attempt whatever becomes of it."""
        task = asyncio.create_task(self.deliver(attempt, drawing), name="deliver")
        self._sending[task] = attempt, drawing.gpu_ms
        task.add_done_callback(self._sent)

    def show(self, attempt: Attempt, preview: Preview, pixels: Pixels) -> None:
        """Tell a rough picture, as soon as it is encoded; `preview` is it without its bytes."""
        task = asyncio.create_task(self._show(attempt, preview, pixels), name="show")
        self._showing.add(task)
        task.add_done_callback(self._showing.discard)

    def hand_back(self) -> None:
        """Try the store no more than once: another worker draws again what is not stored."""
        self._leaving.set()

    def close(self) -> None:
        """End tasks and threads."""
        for task in (*self._sending, *self._showing):
            task.cancel()
        self._encoders.shutdown(wait=False, cancel_futures=True)

    async def deliver(self, attempt: Attempt, drawing: Drawing) -> None:
        """Store every picture that may be shown and end the attempt; a store that stays away is a passing fault."""
        start_s, gpu_ms, peak_bytes = self._clock.now(), drawing.gpu_ms, drawing.peak_memory_bytes
        verdicts = await self._in_pool(self._checker.check_pictures, drawing.pictures)
        showing = show_pictures(len(drawing.pictures), drawing.flagged, verdicts, gpu_ms=gpu_ms)
        refused: list[BaseException] = []
        try:
            async with asyncio.TaskGroup() as storing:
                for index in showing.shown:
                    storing.create_task(self._store(attempt, index, drawing.pictures[index]))
                del drawing  # each task lets its pixels go once they are encoded
        except* DarkroomError as failures:
            refused.extend(failures.exceptions)
        for error in refused[:1]:
            assert isinstance(error, DarkroomError)
            kind = FailureKind.DRAINING if self._leaving.is_set() else FailureKind.TRANSIENT
            attempt.post(Failed(kind, error.reason, error.message, gpu_ms))
        attempt.post(StageDone("store", start_s, self._clock.now()))
        attempt.post(showing.failed or Done(gpu_ms, peak_bytes))

    def _sent(self, task: asyncio.Task[None]) -> None:
        """End the attempt, or its followers would wait for ever."""
        attempt, gpu_ms = self._sending.pop(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            logger.error("pictures not stored", exc_info=error, extra={"job_id": attempt.order.job_id})
        attempt.post(dataclasses.replace(_LEFT if task.cancelled() else _NOT_STORED, gpu_ms=gpu_ms))
        self.on_end(attempt)

    async def _show(self, attempt: Attempt, preview: Preview, pixels: Pixels) -> None:
        encoded = await self._in_pool(encode_preview, pixels)
        attempt.post(dataclasses.replace(preview, content_type=encoded.content_type, data=encoded.data))

    async def _store(self, attempt: Attempt, index: int, pixels: Pixels) -> None:
        spec = attempt.order.spec
        height, width = pixels.shape[-3:-1]
        encoded = await self._in_pool(encode, pixels, spec.output_format, spec.output_quality, spec.fps or 0)
        del pixels
        await self._put(encoded)
        attempt.post(
            ImageStored(
                index=index,
                content_type=encoded.content_type,
                width=width,
                height=height,
                seed=spec.image_seed(index),
                sha256=encoded.sha256,
                size_bytes=len(encoded.data),
            )
        )

    async def _put(self, encoded: Encoded) -> None:
        """Store a file, in the end; raises what the store said last when it stays away for too long."""
        backoff, until_s = Backoff(_FIRST_WAIT_S, _MOST_WAIT_S), self._clock.monotonic() + self._patience_s
        try:
            while (error := await self._try(encoded)) is not None:
                if self._leaving.is_set() or self._clock.monotonic() >= until_s or not self._hold(encoded):
                    raise error
                await self._pause(backoff.next_s())
        finally:
            self._let_go(encoded)

    async def _try(self, encoded: Encoded) -> DarkroomError | None:
        try:
            await self._blobs.put(image_key(encoded.sha256), encoded.data, encoded.content_type)
        except (Unavailable, DeadlinePassed) as error:
            return error
        return None

    async def _pause(self, seconds: float) -> None:
        """Wait, but no longer than until `hand_back`."""
        waits = [asyncio.create_task(self._clock.sleep(seconds)), asyncio.create_task(self._leaving.wait())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    def _hold(self, encoded: Encoded) -> bool:
        others = sum(size for held, size in self._held.items() if held != id(encoded))
        if others + len(encoded.data) > self._spool_bytes:
            return False
        was_held_up = self.held_up
        self._held[id(encoded)] = len(encoded.data)
        self._tell(was_held_up)
        return True

    def _let_go(self, encoded: Encoded) -> None:
        was_held_up = self.held_up
        self._held.pop(id(encoded), None)
        self._tell(was_held_up)

    def _tell(self, was_held_up: bool) -> None:
        if self.held_up != was_held_up:
            self.on_change()

    async def _in_pool(self, work: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._encoders, work, *arguments)
