"""Finds out that the device does not answer, while the thread that waits for it cannot say so."""

from __future__ import annotations

import faulthandler
import sys
import threading
import traceback
from collections.abc import Callable

from libs.clock import Clock
from services.modelserver.pulse import Pulse

LOOK_EVERY_S = 1.0
LAST_RESORT_S = 120.0  # the event loop itself stands still: something holds the interpreter


def _nobody(_seconds: float) -> None:
    return None


class Watchdog:
    """Looks every second. `keep_off` holds off, for so many seconds, whatever ends the process should it stand still."""

    def __init__(self, pulse: Pulse, clock: Clock, keep_off: Callable[[float], None] = _nobody) -> None:
        self._pulse = pulse
        self._clock = clock
        self._keep_off = keep_off

    async def run(self) -> str:
        """Return, in words, once the device has been silent for too long."""
        while True:
            self._keep_off(LAST_RESORT_S)
            signs, now_s = self._pulse.signs(), self._clock.monotonic()
            if signs.silent_too_long(now_s):
                return f"the device was silent for {now_s - signs.heard_s:.0f} s, {signs.limit_s:.0f} s are allowed"
            await self._clock.sleep(LOOK_EVERY_S)


def end_process_after(seconds: float) -> None:
    """End this process, with its stacks on standard error, unless this is called again before.

    It works while something holds the interpreter; and it counts anew from each call.
    """
    faulthandler.dump_traceback_later(seconds, exit=True)


def call_off() -> None:
    """Let the process live."""
    faulthandler.cancel_dump_traceback_later()


def stack_of(thread: threading.Thread) -> str:
    """Return where a thread stands. Code only, no values."""
    frame = sys._current_frames().get(thread.ident or 0)
    return "".join(traceback.format_stack(frame)) if frame is not None else ""
