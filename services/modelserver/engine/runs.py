"""The pipeline calls that are under way: begun, answered, finished, and what is done when one fails.

Whatever a pipeline raises ends its own requests and no others. Requests that shared a call are tried again singly,
since only one of them may be at fault; one that failed because of its checkpoint begins again without it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

from services.modelserver.engine.batcher import Answered, table_key_of
from services.modelserver.engine.calls import Kind
from services.modelserver.engine.checkpoint import BadCheckpoint
from services.modelserver.engine.faults import as_failure
from services.modelserver.engine.line import Line
from services.modelserver.engine.outfit import Outfit
from services.modelserver.engine.pictures import flags_of, pictures_of
from services.modelserver.engine.pipeline_run import Part, PipelineRun
from services.modelserver.engine.protocol import DeviceLost, Drawing, OutOfMemory
from services.modelserver.engine.residency import Residency

logger = logging.getLogger(__name__)


class Runs:
    """Device thread only."""

    def __init__(self, outfit: Outfit, residency: Residency, line: Line) -> None:
        self._outfit, self._residency, self._line, self._device = outfit, residency, line, outfit.device
        self._runs: list[PipelineRun] = []
        self.parked: dict[str, Part] = {}

    def __iter__(self) -> Iterator[PipelineRun]:
        return iter(self._runs)

    @property
    def all(self) -> Sequence[PipelineRun]:
        """Every run, in the order they began."""
        return tuple(self._runs)

    def of(self, request_id: str) -> tuple[PipelineRun, Part] | None:
        """Return the run of a request that still counts, with its part in it."""
        for run in self._runs:
            for part in run.parts:
                if part.request.id == request_id and not part.dropped:
                    return run, part
        return None

    def waiting_for(self, kind: Kind) -> list[PipelineRun]:
        """Return the runs that wait for an answer of this kind."""
        return [run for run in self._runs if run.call is not None and run.call.kind is kind]

    def busy(self) -> set[str]:
        """Return the models that are drawing."""
        return {run.request.folder.model.pinned for run in self._runs}

    def begin(self, parts: Sequence[Part]) -> None:
        """Begin one call for these requests, and go to its first question."""
        run, began_s = None, self._device.now()
        try:
            run = self._outfit.run(self._residency, parts)
            self._runs.append(run)
            run.begin()
            if run.over:  # it asked nobody for anything
                self._finish(run, began_s)
        except Exception as error:  # noqa: BLE001 – whatever a pipeline raises belongs to its requests
            self._fail(run, parts, as_failure(error))

    def take(self, answered: Answered) -> None:
        """Go on with the answer of a forward, or with what went wrong in it."""
        run, error = answered.run, answered.error
        if isinstance(error, DeviceLost):
            self.lose_everything(error)
        elif run in self._runs:
            self.go_on(run, answered.value, error)

    def go_on(self, run: PipelineRun, value: object, error: Exception | None) -> None:
        """Answer a run's call, or let its requests fail."""
        began_s = self._device.now()
        try:
            if error is not None:
                raise error
            run.answer(value)
            if run.over:
                self._finish(run, began_s)
        except Exception as raised:  # noqa: BLE001 – as above
            self._fail(run, run.parts, as_failure(raised))
        self._charge(run, began_s)

    def end(self, run: PipelineRun) -> None:
        """Stop a run where it is and forget it."""
        run.close_stages()
        self._forget(run)

    def park(self, request_id: str) -> bool:
        """End a request's run and keep its state; False when it shares a call, or could not be taken up."""
        found = self.of(request_id)
        if found is None or len(found[0].parts) > 1:
            return False
        run, part = found
        if run.call is not None and run.call.kind is Kind.DECODE:
            return False  # it is nearly over, and some decode what is no part of their state
        saved = run.snapshot()
        if saved is None and run.step:
            return False  # it would lose its steps
        part.checkpoint = saved
        self.end(run)
        self.parked[request_id] = part
        return True

    def drop(self, run: PipelineRun, part: Part) -> None:
        """Let a request out; the last one ends the run."""
        if all(each.dropped or each is part for each in run.parts):
            self.end(run)
        part.dropped = True

    def lose_everything(self, error: DeviceLost) -> None:
        """Tell all who draw, wait or are parked that the device is gone."""
        parts = [part for run in self._runs for part in run.parts]
        parts += self._line.clear() + list(self.parked.values())
        self._runs, self.parked = [], {}  # not unwound: that would call the dead device
        for part in parts:
            _tell_failed(part, error)

    def _finish(self, run: PipelineRun, began_s: float) -> None:
        pictures = pictures_of(run.output)
        flags, start = flags_of(run.output, len(pictures)), 0
        self.end(run)
        self._charge(run, began_s)
        share = len(pictures) // len(run.parts)
        for part in run.parts:
            own = slice(start, start + share)
            if not part.dropped:
                peak, fps = self._device.peak_bytes(), part.request.spec.fps or 0
                part.reports.done(Drawing(pictures[own], peak, part.gpu_ms, fps, flags[own]))
            start += share

    def _charge(self, run: PipelineRun, began_s: float) -> None:
        for part in run.parts:
            part.gpu_ms += 1000 * (self._device.now() - began_s) / len(run.parts)

    def _fail(self, run: PipelineRun | None, parts: Sequence[Part], error: Exception) -> None:
        if isinstance(error, DeviceLost):
            self.lose_everything(error)
            return
        if run is not None:
            self.end(run)
        for part in reversed(parts):
            if len(parts) > 1 and not part.dropped:
                part.alone = True
                self._line.join(part, first=True)
            elif isinstance(error, BadCheckpoint) and part.checkpoint is not None:
                logger.warning("checkpoint left aside", extra={"job_id": part.request.id, "cause": str(error)})
                part.checkpoint = None
                self._line.join(part, first=True)
            else:
                _tell_failed(part, self._worded(part, error))

    def _worded(self, part: Part, error: Exception) -> Exception:
        """Say what would fit, where that is known."""
        if not isinstance(error, OutOfMemory):
            return error
        pinned, rows = part.request.folder.model.pinned, part.request.spec.images
        fits = self._outfit.table.largest_size(pinned, rows, self._device.free_bytes())
        asked = table_key_of(part.request, "denoise").bucket
        if fits is None or fits == asked:
            return error
        worded = OutOfMemory(f"the device's memory did not suffice for {asked}; {fits} fits")
        worded.__cause__ = error
        return worded

    def _forget(self, run: PipelineRun) -> None:
        if run in self._runs:
            self._runs.remove(run)
        run.stop()


def _tell_failed(part: Part, error: Exception) -> None:
    if not part.dropped:
        part.dropped = True
        part.reports.failed(error, part.gpu_ms)
