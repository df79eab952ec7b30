"""One attempt on the device thread: what the engine says of it, put into events and carried to the event loop."""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from libs.generation.attempt import FailureKind, StageDone
from services.modelserver.attempt import Attempt, Order
from services.modelserver.engine import protocol
from services.modelserver.engine.protocol import Drawing, Engine, Pixels, Request
from services.modelserver.events import Event, Failed, Progress
from services.modelserver.pulse import Pulse

logger = logging.getLogger(__name__)

_NOT_CHARGED = "Nothing was charged."
_UNEXPECTED = (FailureKind.TRANSIENT, "GENERATION_FAILED")
FAILURES: dict[type[protocol.EngineFailure], tuple[FailureKind, str]] = {
    protocol.Cancelled: (FailureKind.CANCELLED, "CANCELLED"),
    protocol.OutOfMemory: (FailureKind.OUT_OF_MEMORY, "GPU_OUT_OF_MEMORY"),
    protocol.ModelBroken: (FailureKind.MODEL_UNAVAILABLE, "MODEL_UNUSABLE"),
    protocol.BadPictures: _UNEXPECTED,
    protocol.BadInput: (FailureKind.INVALID, "INVALID_REQUEST"),
    protocol.DeviceLost: (FailureKind.TRANSIENT, "WORKER_LOST"),
}


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a run: the drawing, or the failure and what it means for the worker."""

    drawing: Drawing | None
    failure: Failed | None = None
    broken_model: str = ""  # the reason, when the model is not to be used any more
    device_lost: bool = False


class Listener(Protocol):
    """Who hears of attempts, on the event loop."""

    def heard(self, attempt: Attempt, event: Event) -> None:
        """Take an event."""
        ...

    def saw(self, attempt: Attempt, step: int, total: int, index: int, pixels: Pixels) -> None:
        """Take a rough picture."""
        ...

    def keep(self, attempt: Attempt, step: int, total: int, data: bytes) -> None:
        """Take a checkpoint."""
        ...

    def ended(self, attempt: Attempt, result: Result) -> None:
        """Take what came of it."""
        ...


def request_id(order: Order) -> str:
    """Return what an attempt is called in the engine."""
    return f"{order.job_id}/{order.attempt}"


class AttemptRun:
    """Keeps the promise of `Reports` for one attempt."""

    def __init__(self, attempt: Attempt, listener: Listener, pulse: Pulse, on_loop: Callable[..., None]) -> None:
        self._attempt, self._listener = attempt, listener
        self._pulse, self._on_loop = pulse, on_loop
        self._id = request_id(attempt.order)

    def begin(self, engine: Engine, request: Request) -> None:
        """Hand the request to the engine, unless the attempt was handed back meanwhile."""
        if not self._attempt.claim():
            return
        self._pulse.began(request)
        try:
            engine.admit(request, self)
        except Exception as error:  # noqa: BLE001 – whatever is wrong with it is the end of this attempt alone
            self.failed(error)

    def step(self, step: int, total: int, eta_s: float) -> None:
        """Tell the progress."""
        self._pulse.stepped(self._id)
        self._say(Progress(step, total, eta_s, time.time()))

    def preview(self, step: int, total: int, index: int, pixels: Pixels) -> None:
        """Show a rough picture."""
        self._pulse.said()
        self._on_loop(self._listener.saw, self._attempt, step, total, index, pixels)

    def stage(self, name: str, start_s: float, end_s: float) -> None:
        """Tell that a stage is over."""
        self._pulse.said()
        self._say(StageDone(name, start_s, end_s))

    def checkpoint(self, step: int, total: int, data: bytes) -> None:
        """Hand a checkpoint over."""
        self._pulse.said()
        self._on_loop(self._listener.keep, self._attempt, step, total, data)

    def done(self, drawing: Drawing) -> None:
        """Hand the pictures over."""
        self._pulse.ended(self._id, well=True)
        self._on_loop(self._listener.ended, self._attempt, Result(drawing))

    def failed(self, error: Exception, gpu_ms: float = 0.0) -> None:
        """Tell why there are none, in words that a caller may read."""
        self._pulse.ended(self._id, well=False)
        self._on_loop(self._listener.ended, self._attempt, self._result_of(error, gpu_ms))

    def _say(self, event: Event) -> None:
        self._on_loop(self._listener.heard, self._attempt, event)

    def _result_of(self, error: Exception, gpu_ms: float) -> Result:
        if not isinstance(error, protocol.EngineFailure):
            self._log(error)
            told = f"The picture could not be drawn: {type(error).__name__}. {_NOT_CHARGED}"
            return Result(None, Failed(*_UNEXPECTED, told, gpu_ms))
        kind, reason = _kind_of(error)
        told = f"The picture was not drawn: {error}."
        if kind is not FailureKind.CANCELLED:
            told += f" {_NOT_CHARGED}"
            logger.warning("attempt failed", extra={**self._names(), "reason": reason, "cause": str(error)})
        broken = str(error) if isinstance(error, protocol.ModelBroken) else ""
        return Result(None, Failed(kind, reason, told, gpu_ms), broken, isinstance(error, protocol.DeviceLost))

    def _log(self, error: Exception) -> None:
        """Log where it happened. A library's message may quote the prompt; then it is left out."""
        spec, message = self._attempt.order.spec, str(error)
        words = {word for word in f"{spec.prompt} {spec.negative_prompt}".split() if len(word) > 2}
        extra = {
            **self._names(),
            "error": type(error).__name__,
            "cause": "(withheld: it quotes the prompt)" if any(word in message for word in words) else message,
            "trace": "".join(traceback.format_tb(error.__traceback__)),
        }
        logger.error("attempt failed unexpectedly", extra=extra)

    def _names(self) -> dict[str, object]:
        return {"job_id": self._attempt.order.job_id, "attempt": self._attempt.order.attempt}


def _kind_of(error: protocol.EngineFailure) -> tuple[FailureKind, str]:
    known = next((kind for kind in type(error).__mro__ if kind in FAILURES), None)
    return _UNEXPECTED if known is None else FAILURES[known]
