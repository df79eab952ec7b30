"""The one thread that owns the device, and the event loop's hold on it.

    offer → waiting (at most one) → the thread takes it: load, draw → handed to the delivery → the next

The thread knows nothing of gRPC or the blob store; everything it says goes to the event loop.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import queue
import threading
from collections.abc import Callable
from functools import partial

from libs.clock import Clock
from libs.errors import InvalidRequest, Unavailable
from libs.generation.attempt import FailureKind
from libs.generation.model import Model
from libs.generation.spec import GenerationSpec, SpecRequest, resolve
from services.modelserver.attempt import Attempt
from services.modelserver.delivery import Delivery
from services.modelserver.device_run import DeviceRun, Result
from services.modelserver.engine.protocol import Engine
from services.modelserver.events import Event, Failed
from services.modelserver.models import ModelFolder
from services.modelserver.refusal import Unusable
from services.modelserver.shelf import Shelf

logger = logging.getLogger(__name__)

ROWS = 1  # attempts that draw at once
_WAITING = 1  # attempts that may wait behind them, so that the device does not idle between two
_CANCELLED = Failed(FailureKind.CANCELLED, "CANCELLED", "It was cancelled before it was drawn.")
_NOT_STORED = Failed(FailureKind.TRANSIENT, "INTERNAL", "The pictures were not stored. Nothing was charged.")
_DRAINING = Failed(FailureKind.DRAINING, "DRAINING", "The worker is going away; the job goes to another one.")


class Worker:
    """Everything but `_serve` and below belongs to the event loop."""

    def __init__(self, engine: Engine, shelf: Shelf, delivery: Delivery, clock: Clock) -> None:
        self._engine, self._shelf, self._delivery, self._clock = engine, shelf, delivery, clock
        self._loop = asyncio.get_running_loop()
        self._queue: queue.SimpleQueue[tuple[Attempt, ModelFolder] | None] = queue.SimpleQueue()
        self._held: dict[Attempt, None] = {}  # waiting or drawing, in order
        self._storing: set[asyncio.Task[None]] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        self._draining = False
        self._thread = threading.Thread(target=self._serve, name="device", daemon=True)
        self.device_lost = asyncio.Event()
        self.on_change: Callable[[], None] = lambda: None

    @property
    def rows_in_use(self) -> int:
        """Return how many rows are taken."""
        return min(ROWS, len(self._held))

    @property
    def held(self) -> int:
        """Return how many attempts draw or wait to draw."""
        return len(self._held)

    @property
    def draining(self) -> bool:
        """Return whether it takes nothing new."""
        return self._draining

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def offer(self, attempt: Attempt) -> None:
        """Take an attempt; raises Unavailable when there is no room.

        A model that is not here, or a spec that it does not allow (its limits may have changed since the job was
        accepted), ends the attempt at once.
        """
        if self._draining or self.device_lost.is_set():
            raise Unavailable("The worker is going away. Nothing was charged.", reason="DRAINING", retry_after_s=1.0)
        if len(self._held) >= ROWS + _WAITING:
            raise Unavailable("The worker is busy. Nothing was charged.", reason="WORKER_BUSY", retry_after_s=1.0)
        try:
            folder = self._shelf.usable(attempt.order.pinned)
            _check_spec(attempt.order.spec, folder.model)
        except Unusable as refusal:
            attempt.post(Failed(FailureKind.MODEL_UNAVAILABLE, "MODEL_UNUSABLE", f"{refusal}. Nothing was charged."))
            return
        except InvalidRequest as error:
            attempt.post(Failed(FailureKind.INVALID, error.reason, error.message))
            return
        self._held[attempt] = None
        self._idle.clear()
        self._queue.put((attempt, folder))
        self.on_change()

    def cancel(self, attempt: Attempt) -> None:
        """Stop an attempt: at once when it waits, at its next step when it draws; what is being stored is kept."""
        attempt.cancel()
        self._hand_back(attempt, _CANCELLED)

    async def drain(self, finish_s: float) -> None:
        """Take nothing new, hand back what waits, let what draws end within `finish_s`, then hand that back too."""
        self._draining = True
        for attempt in list(self._held):
            self._hand_back(attempt, _DRAINING)
        self.on_change()
        try:
            async with asyncio.timeout(finish_s):
                await self._idle.wait()
        except TimeoutError:
            for attempt in list(self._held):
                attempt.post(_DRAINING)
                attempt.cancel()
            await self._idle.wait()

    async def stop(self) -> None:
        """End the thread; an attempt that draws is stopped at its next step."""
        for attempt in self._held:
            attempt.cancel()
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    def _hand_back(self, attempt: Attempt, outcome: Failed) -> None:
        if attempt.claim():
            self._release(attempt)
            attempt.post(outcome)

    def _release(self, attempt: Attempt) -> None:
        self._held.pop(attempt, None)
        self._tell_idle()
        self.on_change()

    def _tell_idle(self) -> None:
        if not self._held and not self._storing:
            self._idle.set()

    def _take_result(self, attempt: Attempt, result: Result) -> None:
        """Back on the event loop: end the attempt or hand its pixels to the delivery."""
        if result.broken_model:
            self._shelf.mark_unusable(attempt.order.pinned, result.broken_model)
        if result.device_lost:
            self.device_lost.set()
        if result.drawing is None:
            attempt.post(result.failure or _CANCELLED)
        else:
            task = asyncio.create_task(self._delivery.deliver(attempt, result.drawing, result.gpu_ms))
            self._storing.add(task)
            task.add_done_callback(partial(self._stored, attempt))
        self._release(attempt)

    def _stored(self, attempt: Attempt, task: asyncio.Task[None]) -> None:
        """End the attempt whatever became of the task, or its followers would wait for ever."""
        self._storing.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            logger.error("pictures not stored", exc_info=error, extra={"job_id": attempt.order.job_id})
        attempt.post(_NOT_STORED)
        self._tell_idle()

    def _serve(self) -> None:
        """The device thread: take → load → draw → hand over."""
        while (taken := self._queue.get()) is not None:
            attempt, folder = taken
            if attempt.claim():
                self._on_loop(self._take_result, attempt, self._run(attempt, folder))

    def _run(self, attempt: Attempt, folder: ModelFolder) -> Result:
        def say(event: Event) -> None:
            self._on_loop(attempt.post, event)

        return DeviceRun(attempt, self._clock, say).run(self._engine, folder)

    def _on_loop(self, call: Callable[..., None], *arguments: object) -> None:
        try:
            self._loop.call_soon_threadsafe(call, *arguments)
        except RuntimeError:  # the loop has ended: nobody is left to be told
            logger.warning("said after the end", extra={"what": call.__name__})


def _check_spec(spec: GenerationSpec, model: Model) -> None:
    """Check a resolved spec against the limits as they are here; raises InvalidRequest."""
    request = SpecRequest(**{field.name: getattr(spec, field.name) for field in dataclasses.fields(spec)})
    resolve(request, model, spec.seed)
