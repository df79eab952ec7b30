"""One attempt on the device thread: load what is missing, draw, and put what went wrong into words."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from dataclasses import dataclass

from libs.clock import Clock
from libs.generation.attempt import FailureKind, StageDone
from services.modelserver.attempt import Attempt
from services.modelserver.encoding import encode_preview
from services.modelserver.engine import protocol
from services.modelserver.engine.protocol import Drawing, Engine, Pixels
from services.modelserver.events import Event, Failed, Preview, Progress
from services.modelserver.models import ModelFolder

logger = logging.getLogger(__name__)

_NOT_CHARGED = "Nothing was charged."
FAILURES: dict[type[protocol.EngineFailure], tuple[FailureKind, str]] = {
    protocol.Cancelled: (FailureKind.CANCELLED, "CANCELLED"),
    protocol.OutOfMemory: (FailureKind.OUT_OF_MEMORY, "GPU_OUT_OF_MEMORY"),
    protocol.ModelBroken: (FailureKind.MODEL_UNAVAILABLE, "MODEL_UNUSABLE"),
    protocol.BadPictures: (FailureKind.TRANSIENT, "GENERATION_FAILED"),
    protocol.DeviceLost: (FailureKind.TRANSIENT, "WORKER_LOST"),
}


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a run: the drawing, or the failure and what it means for the worker."""

    drawing: Drawing | None
    gpu_ms: float
    failure: Failed | None = None
    broken_model: str = ""  # the reason, when the model is not to be used any more
    device_lost: bool = False


class DeviceRun:
    """Keeps the promise of `Reports` for one attempt; `say` carries events to the event loop."""

    def __init__(self, attempt: Attempt, clock: Clock, say: Callable[[Event], None]) -> None:
        self._attempt = attempt
        self._clock = clock
        self._say = say
        self._denoise_start_s = clock.monotonic()

    def run(self, engine: Engine, folder: ModelFolder) -> Result:
        """Load and draw. Whatever is raised becomes the failure of this attempt alone."""
        began_s = self._clock.monotonic()
        try:
            if self.cancelled():
                raise protocol.Cancelled("cancelled")
            self._load(engine, folder)
            began_s = self._clock.monotonic()
            drawing = engine.draw(folder.model.pinned, self._attempt.order.spec, self)
        except protocol.EngineFailure as failure:
            return self._failed(failure, self._ms_since(began_s))
        except Exception as error:  # noqa: BLE001 – this thread is owned here and must outlive any fault of a library
            self._log(error)
            told = f"The picture could not be drawn: {type(error).__name__}. {_NOT_CHARGED}"
            gpu_ms = self._ms_since(began_s)
            return Result(None, gpu_ms, Failed(FailureKind.TRANSIENT, "GENERATION_FAILED", told, gpu_ms))
        return Result(drawing, self._ms_since(began_s))

    def step(self, step: int, total: int) -> None:
        """Tell the progress, with the time that the steps so far took."""
        per_step_s = (self._clock.monotonic() - self._denoise_start_s) / step
        self._say(Progress(step, total, per_step_s * (total - step)))

    def preview(self, step: int, total: int, index: int, pixels: Pixels) -> None:
        """Tell a rough picture."""
        encoded = encode_preview(pixels)
        self._say(Preview(step, total, index, encoded.content_type, encoded.data))

    def stage(self, name: str, start_s: float, end_s: float) -> None:
        """Tell that a stage is over."""
        if name == "encode":
            self._denoise_start_s = self._clock.monotonic()
        self._say(StageDone(name, start_s, end_s))

    def cancelled(self) -> bool:
        """Return whether the attempt was asked to stop."""
        return self._attempt.cancelled()

    def _load(self, engine: Engine, folder: ModelFolder) -> None:
        if folder.model.pinned in engine.resident:
            return
        start_s = self._clock.now()
        engine.load(folder)
        self._say(StageDone("load", start_s, self._clock.now()))

    def _failed(self, failure: protocol.EngineFailure, gpu_ms: float) -> Result:
        kind, reason = FAILURES[type(failure)]
        broken = str(failure) if isinstance(failure, protocol.ModelBroken) else ""
        told = f"The picture was not drawn: {failure}."
        if not isinstance(failure, protocol.Cancelled):
            told += f" {_NOT_CHARGED}"
            logger.warning("attempt failed", extra={**self._names(), "reason": reason, "cause": str(failure)})
        failed = Failed(kind, reason, told, gpu_ms)
        return Result(None, gpu_ms, failed, broken, isinstance(failure, protocol.DeviceLost))

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

    def _ms_since(self, began_s: float) -> float:
        return (self._clock.monotonic() - began_s) * 1000
