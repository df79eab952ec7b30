"""The event loop's hold on the device: what is taken in, stopped, handed back, finished.

    offer → inputs and checkpoint fetched → waiting (the device thread has not seen it) → with the engine → stored

As many attempts are here as draw side by side, by what the engine has measured, and one more (acceptance).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial

from libs.clock import Clock
from libs.errors import Unavailable
from libs.generation.attempt import Checkpointed, FailureKind
from services.modelserver.acceptance import folder_for, has_room
from services.modelserver.attempt import Attempt
from services.modelserver.attempt_run import Result
from services.modelserver.carriers import Carriers
from services.modelserver.device_requests import DeviceRequests
from services.modelserver.device_thread import DeviceThread
from services.modelserver.engine.protocol import Engine, Pixels, Tier
from services.modelserver.events import Event, Failed, Preview
from services.modelserver.intake import Intake
from services.modelserver.pulse import Pulse
from services.modelserver.shelf import Shelf
from services.modelserver.watchdog import stack_of

logger = logging.getLogger(__name__)

_MOST_PARKED = 16  # attempts whose state is held in memory
_END_S = 5.0  # for the device thread to end what it does now
_END_LOST_S = 0.5  # the same when it was silent for so long already
_CANCELLED = Failed(FailureKind.CANCELLED, "CANCELLED", "It was cancelled before it was drawn.")
_DRAINING = Failed(FailureKind.DRAINING, "DRAINING", "The worker is going away; the job goes to another one.")
_LOST = Failed(FailureKind.TRANSIENT, "WORKER_LOST", "The worker's device does not answer. Nothing was charged.")


class Worker:
    """Event loop only; what the device thread says comes in by `Listener`."""

    def __init__(self, engine: Engine, shelf: Shelf, carriers: Carriers, clock: Clock, slots: int = 0) -> None:
        self._engine, self._shelf, self._carriers, self.slots = engine, shelf, carriers, slots
        self.pulse = Pulse(clock.monotonic, lambda pinned: engine.residency().get(pinned) is Tier.VRAM)
        self.device = DeviceThread(engine, self.pulse, self._changed, self.give_up)
        self._requests = DeviceRequests(self.device, self.pulse, self)
        self._intake = Intake(carriers, self._requests, slots, self._hand_back)
        self._held: dict[Attempt, None] = {}  # in order of arrival
        self._parked: set[Attempt] = set()  # of them
        self._idle = asyncio.Event()
        self._idle.set()
        self._draining = False
        self.device_lost = asyncio.Event()
        self.on_change: Callable[[], None] = lambda: None
        carriers.delivery.on_change, carriers.delivery.on_end = self._changed, self._left

    @property
    def rows(self) -> int:
        """Return how many attempts draw at once; 0 while results are held up here."""
        if self._carriers.delivery.held_up:
            return 0
        measured = max(1, self.device.load.most_requests)
        return min(measured, self.slots) if self.slots else measured

    @property
    def rows_in_use(self) -> int:
        """Return how many of them are taken."""
        return min(self.rows, self._active)

    @property
    def held(self) -> int:
        """Return how many attempts draw, wait to draw or are parked."""
        return len(self._held)

    @property
    def draining(self) -> bool:
        """Return whether it takes nothing new."""
        return self._draining or self.device_lost.is_set()

    @property
    def _active(self) -> int:
        return len(self._held) - len(self._parked)

    def start(self) -> None:
        """Start the device thread."""
        self.device.start()

    def offer(self, attempt: Attempt) -> None:
        """Take an attempt; raises Unavailable when there is no room. What cannot be drawn here ends at once."""
        if self.draining:
            raise Unavailable("The worker is going away. Nothing was charged.", reason="DRAINING", retry_after_s=1.0)
        active = [held.order for held in self._held if held not in self._parked]
        if not has_room(attempt.order, active, self.device.load, self.rows, self.slots):
            raise Unavailable("The worker is busy. Nothing was charged.", reason="WORKER_BUSY", retry_after_s=1.0)
        found = folder_for(attempt.order, self._shelf, self._carriers.checker)
        if isinstance(found, Failed):
            attempt.post(found)
            return
        self._held[attempt] = None
        self._idle.clear()
        self._intake.take(attempt, found)
        self._changed()

    def cancel(self, attempt: Attempt) -> None:
        """Stop an attempt: at once when it waits, before the next step when it draws; what is being stored is kept."""
        if not self._hand_back(attempt, _CANCELLED):
            if not attempt.begun:
                attempt.post(_CANCELLED)
            self._requests.cancel(attempt.order)

    async def park(self, attempt: Attempt) -> bool:
        """Take an attempt off the device, its state into memory; its place is free for another. False: it cannot be."""
        if attempt not in self._held or attempt in self._parked or len(self._parked) >= _MOST_PARKED:
            return False
        return await self._requests.park(attempt.order, partial(self._moved, attempt, parked=True))

    async def resume(self, attempt: Attempt) -> bool:
        """Let a parked attempt go on when there is room on the device. False: it is not parked."""
        moved = partial(self._moved, attempt, parked=False)
        return attempt in self._parked and await self._requests.resume(attempt.order, moved)

    def _moved(self, attempt: Attempt, *, parked: bool) -> bool:
        if attempt not in self._held:  # it ended meanwhile, and its place is given back
            return False
        attempt.parked = parked
        (self._parked.add if parked else self._parked.discard)(attempt)
        (self._intake.drop if parked else self._intake.hold_slot)(attempt)
        self._changed()
        return True

    async def drain(self, finish_s: float, hand_over_s: float = 0.0) -> None:
        """Take nothing new and hand back what has not begun; let the rest end within `finish_s`.

        What then still draws is handed back at its next checkpoint, or after `hand_over_s` without one.
        """
        self._draining = True
        for attempt in list(self._held):
            if not self._hand_back(attempt, _DRAINING) and (attempt in self._parked or not attempt.begun):
                self._withdraw(attempt)
        self._changed()
        try:
            async with asyncio.timeout(finish_s):
                await self._idle.wait()
        except TimeoutError:
            await self._hand_over(hand_over_s)
            self._carriers.delivery.hand_back()
            await self._idle.wait()

    async def stop(self) -> bool:
        """End the thread; what still draws is stopped before its next step. False when the thread does not end."""
        for attempt in list(self._held):
            self.cancel(attempt)
        ended = await self.device.end(_END_LOST_S if self.device_lost.is_set() else _END_S)
        await self._carriers.checkpoints.close()
        self._carriers.delivery.close()
        return ended

    def give_up(self, why: str) -> None:
        """The device does not answer: end every attempt so that others take them over, and take nothing more."""
        if self.device_lost.is_set():
            return
        self.device_lost.set()
        extra = {"cause": why, "attempts": len(self._held), "stack": stack_of(self.device.thread)}
        logger.error("the device is lost", extra=extra)
        for attempt in list(self._held):
            attempt.claim()
            attempt.post(_LOST)
            self._release(attempt)

    def heard(self, attempt: Attempt, event: Event) -> None:
        """Take what the engine says while it draws."""
        attempt.post(event)

    def saw(self, attempt: Attempt, step: int, total: int, index: int, pixels: Pixels) -> None:
        """Have a rough picture encoded and told."""
        self._carriers.delivery.show(attempt, Preview(step, total, index, "", b""), pixels)

    def keep(self, attempt: Attempt, step: int, total: int, data: bytes) -> None:
        """Have a checkpoint stored and told."""
        self._carriers.checkpoints.keep(attempt, step, total, data)

    def ended(self, attempt: Attempt, result: Result) -> None:
        """End the attempt or hand its pictures to the delivery."""
        if result.broken_model:
            self._shelf.mark_unusable(attempt.order.pinned, result.broken_model)
        if result.drawing is None:
            attempt.post(result.failure or _CANCELLED)
        elif attempt.outcome is None:
            self._carriers.delivery.send(attempt, result.drawing)
        self._release(attempt)
        if result.device_lost:
            self.give_up("the device failed for good")

    def _hand_back(self, attempt: Attempt, outcome: Failed) -> bool:
        """End an attempt that the device has not seen; False when it has."""
        if not attempt.claim():
            return False
        attempt.post(outcome)
        self._release(attempt)
        return True

    def _withdraw(self, attempt: Attempt) -> None:
        """Hand back an attempt that the engine has; it is still held until the engine has let it go."""
        attempt.post(_DRAINING)
        self._requests.cancel(attempt.order)

    async def _hand_over(self, within_s: float) -> None:
        """Withdraw what draws, each as soon as its next checkpoint is stored; at the end the rest without one."""
        self._carriers.urgency.hurried = True
        drawing = [attempt for attempt in self._held if attempt.outcome is None]
        waits = {asyncio.create_task(attempt.next_of(Checkpointed)): attempt for attempt in drawing}
        for wait, attempt in waits.items():
            wait.add_done_callback(partial(self._handed_over, attempt))
        if waits:
            await asyncio.wait(waits, timeout=within_s)
        for wait in waits:
            wait.cancel()

    def _handed_over(self, attempt: Attempt, _wait: asyncio.Task[None]) -> None:
        self._withdraw(attempt)

    def _release(self, attempt: Attempt) -> None:
        """The device has nothing more to do with an attempt."""
        self._held.pop(attempt, None)
        self._parked.discard(attempt)
        self._intake.drop(attempt)
        if attempt.outcome is not None:
            self._left(attempt)
        self._changed()

    def _left(self, attempt: Attempt) -> None:
        """An attempt is over."""
        self._carriers.checkpoints.over(attempt)
        if not self._held and not self._carriers.delivery.busy:
            self._idle.set()

    def _changed(self) -> None:
        self.on_change()
