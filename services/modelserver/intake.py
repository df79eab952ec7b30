"""From an order to the device: inputs and checkpoint are fetched, then the attempt waits for a slot, if slots are few."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial

from libs.errors import DarkroomError
from libs.generation.attempt import FailureKind
from services.modelserver.attempt import Attempt
from services.modelserver.carriers import Carriers, needs_any
from services.modelserver.device_requests import DeviceRequests
from services.modelserver.events import Failed
from services.modelserver.inputs import Inputs, failure_of
from services.modelserver.models import ModelFolder

logger = logging.getLogger(__name__)

_NOT_FETCHED = Failed(FailureKind.TRANSIENT, "INTERNAL", "Its inputs could not be fetched. Nothing was charged.")


class Intake:
    """Event loop only. `refuse` is called with an attempt whose inputs cannot be had; `slots` of 0: no bound."""

    def __init__(
        self, carriers: Carriers, requests: DeviceRequests, slots: int, refuse: Callable[[Attempt, Failed], object]
    ) -> None:
        self._carriers, self._requests, self._slots, self._refuse = carriers, requests, slots, refuse
        self._fetching: dict[Attempt, asyncio.Task[None]] = {}
        self._ready: dict[Attempt, Callable[[], None]] = {}
        self._given: set[Attempt] = set()

    def take(self, attempt: Attempt, folder: ModelFolder) -> None:
        """Bring an attempt to the device, now or when it may."""
        if needs_any(attempt.order):
            self._fetching[attempt] = asyncio.create_task(self._fetch(attempt, folder), name="fetch")
        else:
            self._put_in_line(attempt, folder, Inputs(), b"")

    def drop(self, attempt: Attempt) -> None:
        """An attempt is over, handed back, or off the device: its slot is another's."""
        fetching = self._fetching.pop(attempt, None)
        if fetching is not None:
            fetching.cancel()
        self._ready.pop(attempt, None)
        self._given.discard(attempt)
        self._fill()

    def hold_slot(self, attempt: Attempt) -> None:
        """An attempt is on the device again."""
        self._given.add(attempt)

    async def _fetch(self, attempt: Attempt, folder: ModelFolder) -> None:
        refusal = _NOT_FETCHED
        try:
            inputs = await self._carriers.inputs.read(attempt.order)
            checkpoint = await self._carriers.checkpoints.fetch(attempt.order)
        except DarkroomError as error:
            refusal = failure_of(error)
        except Exception:  # owns the task: an attempt that nobody ends would wait for ever
            logger.exception("inputs not fetched", extra={"job_id": attempt.order.job_id})
        else:
            del self._fetching[attempt]
            self._put_in_line(attempt, folder, inputs, checkpoint)
            return
        del self._fetching[attempt]
        self._refuse(attempt, refusal)

    def _put_in_line(self, attempt: Attempt, folder: ModelFolder, inputs: Inputs, checkpoint: bytes) -> None:
        self._ready[attempt] = partial(self._requests.hand_in, attempt, folder, inputs, checkpoint)
        self._fill()

    def _fill(self) -> None:
        while self._ready and not (self._slots and len(self._given) >= self._slots):
            attempt = next(iter(self._ready))
            self._given.add(attempt)
            self._ready.pop(attempt)()
