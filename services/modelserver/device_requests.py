"""Attempts as requests of the engine: handed in, stopped, parked, each by a command to the device thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from services.modelserver.attempt import Attempt, Order
from services.modelserver.attempt_run import AttemptRun, Listener, request_id
from services.modelserver.device_thread import DeviceThread
from services.modelserver.engine.protocol import Engine, Request
from services.modelserver.inputs import Inputs
from services.modelserver.models import ModelFolder
from services.modelserver.pulse import Pulse


class DeviceRequests:
    """Event loop only; `listener` hears what comes of them."""

    def __init__(self, device: DeviceThread, pulse: Pulse, listener: Listener) -> None:
        self._device, self._pulse, self._listener = device, pulse, listener
        self._moves: set[asyncio.Task[bool]] = set()

    def hand_in(self, attempt: Attempt, folder: ModelFolder, inputs: Inputs, checkpoint: bytes) -> None:
        """Have the engine take an attempt, unless it is handed back before."""
        order = attempt.order
        request = Request(request_id(order), folder, order.spec, inputs.image, inputs.mask, checkpoint)
        run = AttemptRun(attempt, self._listener, self._pulse, self._device.on_loop)
        self._device.tell(lambda engine: run.begin(engine, request))

    def cancel(self, order: Order) -> None:
        """Have the engine stop an attempt, if it is there."""
        self._device.tell(lambda engine: engine.cancel(request_id(order)))

    async def park(self, order: Order, then: Callable[[], bool]) -> bool:
        """Have the engine take an attempt off the device; False when it cannot be. `then` as in `resume`."""
        return await self._move(request_id(order), True, then)

    async def resume(self, order: Order, then: Callable[[], bool]) -> bool:
        """Have the engine go on with a parked attempt; False when it is not parked.

        Once it has, `then` is called and has the last word, also when nobody waits for the answer any more.
        """
        return await self._move(request_id(order), False, then)

    async def _move(self, name: str, parked: bool, then: Callable[[], bool]) -> bool:
        async def move() -> bool:
            return await self._set_parked(name, parked) and then()

        task = asyncio.create_task(move())
        self._moves.add(task)
        task.add_done_callback(self._moves.discard)
        return await asyncio.shield(task)

    async def _set_parked(self, name: str, parked: bool) -> bool:
        def command(engine: Engine) -> bool:
            done = engine.park(name) if parked else engine.resume(name)
            if done:
                self._pulse.parked(name, parked)
            return done

        return await self._device.ask(command)
