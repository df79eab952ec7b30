"""The engine: many requests side by side on one device, one step of all that fit at a time.

    tick:  answers of the side threads → models come and go → begin what fits → encode → one forward → decode

A request is a pipeline call that runs as a coroutine (pipeline_run). Calls of its denoiser are packed with those of
other requests (batcher); those of a denoiser that is not known to keep its rows apart run alone: that is the
whole-pipeline lane, where requests that differ in words and seeds only share a call from the beginning.
Requests begin in the order of their arrival (line); one overtakes only those that wait for their model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch

from services.modelserver.engine.batcher import Batcher
from services.modelserver.engine.calls import Kind
from services.modelserver.engine.faults import as_failure
from services.modelserver.engine.line import Line
from services.modelserver.engine.outfit import Outfit
from services.modelserver.engine.pipeline_run import Part, PipelineRun
from services.modelserver.engine.protocol import Cancelled, DeviceInfo, Load, Reports, Request, Tier
from services.modelserver.engine.quiet import quiet_libraries
from services.modelserver.engine.residency import LoadFailed
from services.modelserver.engine.row_counts import RowCounts
from services.modelserver.engine.runs import Runs
from services.modelserver.engine.side_work import SideWork
from services.modelserver.engine.stats import EngineStats
from services.modelserver.models import ModelFolder


class StepwiseEngine:
    """Keeps the promises of `Engine`; see the module."""

    def __init__(self, outfit: Outfit) -> None:
        quiet_libraries()
        self._outfit = outfit
        self._device = outfit.device
        self._residency = outfit.residency(self._woken)
        self._batcher = Batcher(outfit)
        self._line = Line(outfit, self._residency, self._batcher)
        self._counts = RowCounts(outfit, self._batcher)
        self._runs = Runs(outfit, self._residency, self._line)
        self._side = SideWork(outfit, self._woken, self._runs.go_on)
        self._wake: Callable[[], None] = lambda: None
        self._ticks = self._parks = self._resumes = self._swaps = 0
        self._tick_s = 0.0

    @property
    def device(self) -> DeviceInfo:
        """What it runs on."""
        return self._device.info

    def residency(self) -> Mapping[str, Tier]:
        """Return where the models are that are not on disk."""
        return self._residency.tiers()

    def load_share(self) -> Mapping[str, float]:
        """Return how far models have been read that are on their way, 0 to 1; callable from every thread."""
        return self._residency.progress()

    def memory_bytes(self) -> int:
        """Return the device memory in use by this process now."""
        return self._device.memory_bytes()

    def load(self) -> Load:
        """Return how full it is."""
        return Load(
            drawing=sum(not part.dropped for run in self._runs for part in run.parts),
            waiting=len(self._line),
            parked=len(self._runs.parked),
            rows=sum(run.rows for run in self._runs),
            most_requests=self._line.most_requests(),
            models=self._counts.tell(self._residency.tiers(), self._line.folders, self._runs),
            free_bytes=self._counts.free_bytes,
        )

    def admit(self, request: Request, reports: Reports) -> None:
        """Take a request in; a checkpoint that does not belong to it is left aside."""
        self._line.join(Part(request, reports, checkpoint=self._outfit.checkpoint(request)))

    def cancel(self, request_id: str) -> bool:
        """Stop a request, at once."""
        part = self._line.leave(request_id) or self._runs.parked.pop(request_id, None)
        if part is None:
            found = self._runs.of(request_id)
            if found is None:
                return False
            run, part = found
            self._runs.drop(run, part)
        part.reports.failed(Cancelled("cancelled"), part.gpu_ms)
        return True

    def park(self, request_id: str) -> bool:
        """Take a request off the device; its state goes into host memory."""
        parked = self._runs.park(request_id)
        self._parks += parked
        return parked

    def resume(self, request_id: str) -> bool:
        """Let a parked request go on, before those that wait."""
        part = self._runs.parked.pop(request_id, None)
        if part is None:
            return False
        self._line.join(part, first=True)
        self._resumes += 1
        return True

    def warm(self, folder: ModelFolder, tier: Tier) -> None:
        """Begin to bring a model's weights into RAM or VRAM."""
        self._line.bring(folder, tier)

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
            busy_seconds=self._device.busy.seconds,
            forwards=batcher.forwards,
            rows=batcher.rows_run,
            seconds=batcher.seconds,
            side_seconds=self._side.seconds,
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
        """End the threads; what draws is stopped, unheard."""
        for run in self._runs.all:
            run.stop()
        self._side.close()
        self._residency.close()

    @torch.inference_mode()  # of the thread, not of the coroutines: they enter and leave it in the midst of each other
    def tick(self) -> bool:
        """Do one pass; see the module."""
        with self._device.busy.working():
            return self._tick()

    def _tick(self) -> bool:
        began_s = self._device.now()
        did = self._side.hear()
        did |= self._models_come_and_go()
        did |= self._begin()
        did |= self._encode_and_decode()
        did |= self._forward()
        did |= self._encode_and_decode()
        if did:
            self._ticks, self._tick_s = self._ticks + 1, self._tick_s + self._device.now() - began_s
        return did

    def _models_come_and_go(self) -> bool:
        changes = self._residency.advance(self._busy(), self._line.models())
        for change in changes:
            if isinstance(change, LoadFailed):
                for part in self._line.leave_model(change.pinned):
                    part.reports.failed(change.error)
            else:
                self._swaps += change.tier is Tier.VRAM
                self._outfit.make_ready(self._residency, change.pinned)
                self._line.tell_loaded(change)
        self._outfit.forget_all_but(self._residency.tiers())  # idle ones leave unannounced
        return bool(changes)

    def _begin(self) -> bool:
        began = False
        while (parts := self._line.next(self._runs.all)) is not None:
            self._runs.begin(parts)
            began = True
        return began

    def _forward(self) -> bool:
        waiting = self._runs.waiting_for(Kind.FORWARD)
        if not waiting:
            return False
        asked = []
        for run in waiting:
            try:
                asked.append(self._batcher.ask(run))
            except Exception as error:  # noqa: BLE001 – a call that cannot be read ends its own requests
                self._runs.go_on(run, None, as_failure(error))
        if not asked:
            return True
        chosen = self._batcher.choose(asked)
        for answered in self._batcher.forward(chosen, self._set_adapters):
            self._runs.take(answered)
        return True

    def _encode_and_decode(self) -> bool:
        """Hand over what waits for it. A device that does no two things at once has done it then: who is through leaves
        its rows to another before the next forward, and who is new takes part in it.
        """
        did = self._side.send(self._runs.all)
        while not self._device.overlaps and self._side.hear():
            self._side.send(self._runs.all)
        return did

    def _set_adapters(self, run: PipelineRun) -> None:
        self._outfit.adapters(self._residency, run).use(run.adapters)

    def _busy(self) -> set[str]:
        """Return the models in use, in whatever thread."""
        return self._runs.busy() | self._side.models()

    def _woken(self) -> None:
        self._wake()
