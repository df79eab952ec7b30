"""The engine: many requests side by side on one device, one step of all that fit at a time.

    tick:  answers of the side threads → models come and go → begin what fits → one forward → encode and decode

A request is a pipeline call that runs as a coroutine (pipeline_run). Calls of its denoiser are packed with those of
other requests (batcher); those of a denoiser that is not known to keep its rows apart run alone: that is the
whole-pipeline lane, where requests that differ in words and seeds only share a call from the beginning.
Requests begin in the order of their arrival (line); one overtakes only those that wait for their model.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from services.modelserver.engine.batcher import Answered, Asked, Batcher
from services.modelserver.engine.calls import Kind
from services.modelserver.engine.checkpoint import BadCheckpoint, Checkpoint
from services.modelserver.engine.faults import as_failure
from services.modelserver.engine.line import Line
from services.modelserver.engine.outfit import Outfit
from services.modelserver.engine.pictures import flags_of, pictures_of
from services.modelserver.engine.pipeline_run import Part, PipelineRun
from services.modelserver.engine.protocol import (
    Cancelled,
    DeviceInfo,
    DeviceLost,
    Drawing,
    Load,
    Request,
    StepReports,
    Tier,
)
from services.modelserver.engine.quiet import quiet_libraries
from services.modelserver.engine.residency import LoadFailed
from services.modelserver.engine.side_work import SideWork
from services.modelserver.engine.stats import EngineStats
from services.modelserver.models import ModelFolder

logger = logging.getLogger(__name__)


class StepwiseEngine:
    """Keeps the promises of `StepEngine`; see the module."""

    def __init__(self, outfit: Outfit) -> None:
        quiet_libraries()
        self._outfit = outfit
        self._device = outfit.device
        self._residency = outfit.residency(self._woken)
        self._batcher = Batcher(outfit.device, outfit.table, outfit.unbatched, outfit.occupancy)
        self._side = SideWork(outfit.device, outfit.table, self._woken, self._go_on)
        self._line = Line(outfit, self._residency, self._batcher)
        self._runs: list[PipelineRun] = []
        self._parked: dict[str, Part] = {}
        self._wake: Callable[[], None] = lambda: None
        self._lost: DeviceLost | None = None
        self._ticks = self._parks = self._resumes = self._swaps = 0
        self._tick_s = 0.0

    @property
    def device(self) -> DeviceInfo:
        """What it runs on."""
        return self._device.info

    def residency(self) -> Mapping[str, Tier]:
        """Return where the models are that are not on disk."""
        return self._residency.tiers()

    def memory_bytes(self) -> int:
        """Return the device memory in use by this process now."""
        return self._device.memory_bytes()

    def load(self) -> Load:
        """Return how full it is."""
        return Load(
            drawing=sum(len(run.parts) for run in self._runs),
            waiting=len(self._line),
            parked=len(self._parked),
            rows=sum(run.rows for run in self._runs),
            most_requests=self._line.most_requests(),
        )

    def admit(self, request: Request, reports: StepReports) -> None:
        """Take a request in; a checkpoint that does not belong to it is left aside."""
        self._line.join(Part(request, reports, checkpoint=self._checkpoint(request)))

    def cancel(self, request_id: str) -> bool:
        """Stop a request, at once."""
        part = self._line.leave(request_id) or self._parked.pop(request_id, None)
        if part is None:
            run = self._run_of(request_id)
            if run is None:
                return False
            part = next(each for each in run.parts if each.request.id == request_id)
            self._drop(run, part)
        part.reports.failed(Cancelled("cancelled"))
        return True

    def park(self, request_id: str) -> bool:
        """Take a request off the device; its state goes into host memory."""
        run = self._run_of(request_id)
        if run is None or len(run.parts) > 1:
            return False
        part = run.parts[0]
        part.checkpoint = run.snapshot()
        run.close_stages()
        self._end(run)
        self._parked[request_id] = part
        self._parks += 1
        return True

    def resume(self, request_id: str) -> bool:
        """Let a parked request go on, before those that wait."""
        part = self._parked.pop(request_id, None)
        if part is None:
            return False
        self._line.join(part, first=True)
        self._resumes += 1
        return True

    def warm(self, folder: ModelFolder, tier: Tier) -> None:
        """Begin to bring a model's weights into RAM or VRAM."""
        self._residency.want(folder, tier)

    def evict(self, pinned: str) -> bool:
        """Let a model's weights go."""
        return self._residency.evict(pinned, self._busy())

    def on_wake(self, wake: Callable[[], None]) -> None:
        """Set whom the engine's own threads call."""
        self._wake = wake

    def stats(self) -> EngineStats:
        """Return what has been counted so far; callable from every thread."""
        outfit, batcher = self._outfit, self._batcher
        return EngineStats(
            ticks=self._ticks,
            tick_seconds=self._tick_s,
            forwards=batcher.forwards,
            rows=batcher.rows_run,
            seconds=batcher.seconds,
            occupancy=outfit.occupancy.totals(),
            splits=batcher.splits,
            parks=self._parks,
            resumes=self._resumes,
            checkpoints=outfit.checkpoints,
            swaps=self._swaps,
            embedding_hits=outfit.embeddings.hits,
            embedding_misses=outfit.embeddings.misses,
            unbatched=outfit.unbatched.totals(),
        )

    def close(self) -> None:
        """End the threads."""
        for run in self._runs:
            run.stop()
        self._side.close()
        self._residency.close()

    def tick(self) -> bool:
        """Do one pass; see the module."""
        began_s = self._device.now()
        did = self._side.hear()
        did |= self._models_come_and_go()
        did |= self._begin()
        did |= self._forward()
        did |= self._side.send(self._runs)
        if did:
            self._ticks, self._tick_s = self._ticks + 1, self._tick_s + self._device.now() - began_s
        return did

    def _models_come_and_go(self) -> bool:
        changes = self._residency.advance(self._busy())
        for change in changes:
            if isinstance(change, LoadFailed):
                for part in self._line.leave_model(change.pinned):
                    part.reports.failed(change.error)
            else:
                self._swaps += change.tier is Tier.VRAM
                self._line.tell_loaded(change)
        if changes:
            self._outfit.forget_all_but(self._residency.tiers())
        return bool(changes)

    def _begin(self) -> bool:
        began = False
        while (parts := self._line.next(self._runs)) is not None:
            began = True
            run = None
            try:
                run = self._outfit.run(self._residency, parts)
                self._runs.append(run)
                run.begin()
            except Exception as error:  # noqa: BLE001 – whatever a pipeline raises belongs to its requests
                self._fail(run, parts, as_failure(error))
        return began

    def _forward(self) -> bool:
        asked = [self._ask(run) for run in self._runs if run.call is not None and run.call.kind is Kind.FORWARD]
        for run in [run for run in self._runs if run.call is not None and run.call.kind is Kind.STEP]:
            self._go_on(run, None, None)
        if not asked:
            return False
        chosen = self._batcher.choose(asked)
        for answered in self._batcher.forward(chosen, self._set_adapters):
            self._take(answered)
        return True

    def _ask(self, run: PipelineRun) -> Asked:
        return self._batcher.ask(run, run.request.folder.model.pinned)

    def _set_adapters(self, run: PipelineRun) -> None:
        self._outfit.adapters(self._residency, run).use(run.adapters)

    def _take(self, answered: Answered) -> None:
        run, error = answered.run, answered.error
        if isinstance(error, DeviceLost):
            self._lose_everything(error)
        elif run in self._runs:
            if error is not None and len(run.parts) > 1:
                self._try_singly(run)
            elif error is not None:
                self._fail(run, run.parts, error)
            else:
                self._go_on(run, answered.value, None)

    def _go_on(self, run: PipelineRun, value: object, error: Exception | None) -> None:
        """Answer a run's call; whatever its pipeline raises ends this run alone."""
        began_s = self._device.now()
        try:
            if error is not None:
                raise error
            run.answer(value)
            if run.over:
                self._finish(run)
        except Exception as raised:  # noqa: BLE001 – as above
            self._fail(run, run.parts, as_failure(raised))
        for part in run.parts:
            part.gpu_ms += 1000 * (self._device.now() - began_s) / len(run.parts)

    def _finish(self, run: PipelineRun) -> None:
        pictures = pictures_of(run.output)
        flags, start = flags_of(run.output, len(pictures)), 0
        run.close_stages()
        self._end(run)
        for part in run.parts:
            end = start + part.request.spec.images
            if not part.dropped:
                drawing = Drawing(
                    pictures[start:end],
                    self._device.peak_bytes(),
                    part.gpu_ms,
                    part.request.spec.fps,
                    flags[start:end],
                )
                part.reports.done(drawing)
            start = end

    def _fail(self, run: PipelineRun | None, parts: list[Part] | tuple[Part, ...], error: Exception) -> None:
        if run is not None:
            run.close_stages()
            self._end(run)
        for part in parts:
            if isinstance(error, BadCheckpoint) and part.checkpoint is not None:
                logger.warning("checkpoint left aside", extra={"job_id": part.request.id, "cause": str(error)})
                part.checkpoint = None
                self._line.join(part, first=True)
            elif not part.dropped:
                part.reports.failed(error)
        if isinstance(error, DeviceLost):
            self._lose_everything(error)

    def _try_singly(self, run: PipelineRun) -> None:
        """Begin the requests of a shared call again, each in one of its own: only one of them may be at fault."""
        self._end(run)
        for part in reversed(run.parts):
            if not part.dropped:
                part.alone = True
                self._line.join(part, first=True)

    def _lose_everything(self, error: DeviceLost) -> None:
        parts = [part for run in self._runs for part in run.parts] + self._line.clear() + list(self._parked.values())
        self._runs, self._parked = [], {}
        for part in parts:
            if not part.dropped:
                part.reports.failed(error)

    def _drop(self, run: PipelineRun, part: Part) -> None:
        part.dropped = True
        if all(each.dropped for each in run.parts):
            run.close_stages()
            self._end(run)

    def _end(self, run: PipelineRun) -> None:
        if run in self._runs:
            self._runs.remove(run)
        run.stop()

    def _run_of(self, request_id: str) -> PipelineRun | None:
        return next(
            (run for run in self._runs for part in run.parts if part.request.id == request_id and not part.dropped),
            None,
        )

    def _busy(self) -> set[str]:
        return {run.request.folder.model.pinned for run in self._runs}

    def _checkpoint(self, request: Request) -> Checkpoint | None:
        if not request.checkpoint:
            return None
        try:
            checkpoint = Checkpoint.from_bytes(request.checkpoint)
        except BadCheckpoint as error:
            logger.warning("checkpoint left aside", extra={"job_id": request.id, "cause": str(error)})
            return None
        if checkpoint.fingerprint != self._outfit.fingerprint(request):
            logger.warning("checkpoint left aside", extra={"job_id": request.id, "cause": "it is of another drawing"})
            return None
        return checkpoint

    def _woken(self) -> None:
        self._wake()
