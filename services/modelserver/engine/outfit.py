"""What an engine is fitted out with: its device, its measurements, and what becomes of a loaded model."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch

from services.modelserver.engine.adapters import Adapters
from services.modelserver.engine.batch_table import BatchTable
from services.modelserver.engine.checkpoint import BadCheckpoint, Checkpoint, fingerprint
from services.modelserver.engine.compiling import warm_compiled
from services.modelserver.engine.device import Device
from services.modelserver.engine.embeddings import Embeddings
from services.modelserver.engine.layouts import LAYOUTS
from services.modelserver.engine.loading import LoadedModel, load_model
from services.modelserver.engine.packing import BUCKETS
from services.modelserver.engine.pipeline_run import Part, PipelineRun, Surroundings
from services.modelserver.engine.pipes import Pipes
from services.modelserver.engine.protocol import Request, Tier
from services.modelserver.engine.reasons import Unbatched
from services.modelserver.engine.residency import Residency
from services.modelserver.engine.stats import Occupancy
from services.modelserver.engine.wants import Load

logger = logging.getLogger(__name__)

DEVICE_SHARE = 0.85  # of a device's memory is for weights; the rest is for drawing
_COMPILED_ROWS = 8
HOST_SHARE = 0.5  # of the machine's memory may hold weights that are not on the device


def _never(_step: int, _total: int, _since_s: float, _eta_s: float) -> bool:
    return False


def _enough(_request: Request, _rows: int) -> bool:
    return False


def _unseen(_request_id: str, _latents: torch.Tensor) -> None:
    return None


@dataclass(slots=True, eq=False)
class Outfit:
    """Everything an engine needs. Bytes are of weights; `idle_s` of 0 keeps idle models where they are.

    With `warms_up`, a size of pictures is measured when it is first drawn (warm_up).

    `due(step, total, seconds since the last, seconds left)` says when a checkpoint is worth while; `on_latents` is
    shown the finished latents of each request. `load` brings a model into the host's memory, in a thread of its own.
    `lacks_memory(request, rows)` says whether a forward fails for want of memory, whatever the device has: for tests.
    """

    device: Device
    table: BatchTable
    budget_bytes: int
    host_budget_bytes: int
    idle_s: float = 0.0
    warms_up: bool = False
    load: Load = load_model
    checkpoints: int = 0  # handed over so far
    due: Callable[[int, int, float, float], bool] = _never
    on_latents: Callable[[str, torch.Tensor], None] = _unseen
    lacks_memory: Callable[[Request, int], bool] = _enough
    occupancy: Occupancy = field(default_factory=Occupancy)
    unbatched: Unbatched = field(default_factory=Unbatched)
    embeddings: Embeddings = field(default_factory=Embeddings)
    pipes: Pipes = field(default_factory=Pipes)

    def residency(self, wake: Callable[[], None]) -> Residency:
        """Return who brings models and lets them go."""
        return Residency(
            self.device,
            self.budget_bytes,
            self.host_budget_bytes,
            self.load,
            clock=self.device.now,
            idle_s=self.idle_s,
            wake=wake,
        )

    def run(self, residency: Residency, parts: Sequence[Part]) -> PipelineRun:
        """Return the pipeline call of these requests, not yet begun; raises BadInput."""
        request = parts[0].request
        model = self._model(residency, request)
        around = Surroundings(
            device=self.device.torch,
            fingerprint=self.fingerprint,
            embeddings=self.embeddings,
            use_on_text_encoders=self.pipes.adapters(model).use_on_text_encoders,
            now=self.device.now,
            unix=time.time,
            due=self._is_due,
            on_latents=self.on_latents,
        )
        adapters = tuple(sorted((use.name, use.weight) for use in request.spec.loras))
        return PipelineRun(self.pipes.pipe(model, request), parts, adapters, around)

    def adapters(self, residency: Residency, run: PipelineRun) -> Adapters:
        """Return who sets the adapters of a run's model."""
        return self.pipes.adapters(self._model(residency, run.request))

    def make_ready(self, residency: Residency, pinned: str) -> None:
        """Compile what a model that has come would else compile while requests wait; only for one that is compiled."""
        model = residency.on_device(pinned)
        if model is not None and model.folder.options.compile and self.warms_up:
            defaults, most = model.folder.model.defaults, model.folder.options.most_rows or _COMPILED_ROWS
            rows = [rows for rows in BUCKETS if rows <= most]
            try:
                warm_compiled(model, [(each, defaults.width, defaults.height) for each in rows])
            except Exception as error:  # noqa: BLE001 – whoever draws is told what is wrong, when it is drawn
                logger.warning("not compiled beforehand", extra={"model": pinned, "error": type(error).__name__})
                self.device.release()

    def shares_calls(self, residency: Residency, request: Request) -> bool:
        """Return whether requests of this model can only be put together from the beginning."""
        model = self._model(residency, request)
        return type(getattr(model.pipe, model.denoiser, None)).__name__ not in LAYOUTS

    def forget_all_but(self, tiers: Mapping[str, Tier]) -> None:
        """Let go of everything that belongs to models that left."""
        for pinned in self.pipes.models() - tiers.keys():
            self.pipes.forget(pinned)
            self.embeddings.forget(pinned)

    def fingerprint(self, request: Request) -> str:
        """Return what a checkpoint must be of to go on with this request."""
        return fingerprint(request.folder, request.spec, request.image, request.mask)

    def checkpoint(self, request: Request) -> Checkpoint | None:
        """Return the checkpoint of a request, None when there is none that belongs to it."""
        if not request.checkpoint:
            return None
        try:
            checkpoint = Checkpoint.from_bytes(request.checkpoint)
            if checkpoint.fingerprint == self.fingerprint(request):
                return checkpoint
            cause = "it is of another drawing"
        except BadCheckpoint as error:
            cause = str(error)
        logger.warning("checkpoint left aside", extra={"job_id": request.id, "cause": cause})
        return None

    def _is_due(self, step: int, total: int, since_s: float, eta_s: float) -> bool:
        due = self.due(step, total, since_s, eta_s)
        self.checkpoints += due
        return due

    @staticmethod
    def _model(residency: Residency, request: Request) -> LoadedModel:
        model = residency.on_device(request.folder.model.pinned)
        assert model is not None  # asked for only while it is there, and it is not let go while it draws
        return model


def make_outfit(device: Device, table: BatchTable, **options: object) -> Outfit:
    """Return the usual outfit of a device: budgets by its memory."""
    budget = int(device.info.memory_bytes * DEVICE_SHARE)
    host = int(device.host_bytes() * HOST_SHARE)
    return Outfit(device, table, budget, host, **options)  # type: ignore[arg-type]
