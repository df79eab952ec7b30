"""An engine without weights that keeps every promise of `Engine`, step by step. It ships, and the tests run on it.

Decoding takes a tick of its own, for which it wakes its owner.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from services.modelserver.engine import fake_chain
from services.modelserver.engine.protocol import (
    BadInput,
    BadPictures,
    Cancelled,
    DeviceInfo,
    Drawing,
    EngineFailure,
    Load,
    Reports,
    Request,
    Tier,
)
from services.modelserver.engine.stats import EngineStats
from services.modelserver.models import ModelFolder

_TICK_MS = 1.0  # what a pass of this device takes in its own books
_BYTES = 2**20


def _nothing(*_about: object) -> None:
    return None


def _always(*_about: object) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Hooks:
    """What a test wants to happen, on the device thread: block, raise, or take note."""

    on_load: Callable[[ModelFolder], None] = _nothing
    on_step: Callable[[Request, int], None] = _nothing  # once a request and step, before it counts
    on_forward: Callable[[tuple[str, ...]], None] = _nothing  # once a pass, with the ids that share it


@dataclass(slots=True)
class _Run:
    """A request under way: `state` is the link of its chain after `step`."""

    request: Request
    reports: Reports
    state: str
    step: int = 0
    gpu_ms: float = 0.0
    began_s: float = 0.0

    @property
    def rows(self) -> int:
        spec = self.request.spec
        return spec.images * (2 if spec.guided else 1)

    @property
    def total(self) -> int:
        return self.request.spec.drawn_steps

    def checkpoint(self) -> bytes:
        return fake_chain.checkpoint(self.request, self.step, self.state)


@dataclass(slots=True)
class _Models:
    """Where the models are; one folder is on the device for each that draws, and the last `fits` others."""

    fits: int
    tiers: dict[str, Tier] = field(default_factory=dict)  # in order of use, the latest last
    wanted: dict[str, tuple[ModelFolder, Tier]] = field(default_factory=dict)

    def use(self, pinned: str, tier: Tier) -> None:
        self.tiers.pop(pinned, None)
        self.tiers[pinned] = tier

    def shrink(self, busy: set[str]) -> None:
        """Move those used longest ago into memory while too many are on the device."""
        on_device = [pinned for pinned, tier in self.tiers.items() if tier is Tier.VRAM]
        for pinned in [p for p in on_device if p not in busy][: max(0, len(on_device) - self.fits)]:
            self.tiers[pinned] = Tier.RAM


class _CountsNothing:
    def load_share(self) -> Mapping[str, float]:
        """Return nothing: a load takes one tick."""
        return {}

    def stats(self) -> EngineStats:
        """Return nothing counted."""
        return EngineStats()


class FakeEngine(_CountsNothing):
    """Keeps the promises of `Engine`. At most `most_requests` draw at once; `fits` models are on the device.

    `due(step, total, since_s, eta_s)` tells when a checkpoint is wanted.
    """

    def __init__(
        self,
        hooks: Hooks | None = None,
        *,
        most_requests: int = 4,
        fits: int = 2,
        due: Callable[[int, int, float, float], bool] = _always,
        now: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self._hooks = hooks or Hooks()
        self._most_requests, self._due, self._now = most_requests, due, now
        self._models = _Models(fits)
        self._waiting: dict[str, _Run] = {}
        self._drawing: dict[str, _Run] = {}
        self._decoding: dict[str, _Run] = {}
        self._parked: dict[str, _Run] = {}
        self._wake: Callable[[], None] = _nothing

    @property
    def device(self) -> DeviceInfo:
        """A device of no account."""
        return DeviceInfo("cpu", "cpu", 2**30)

    def residency(self) -> Mapping[str, Tier]:
        """Return where the models are that were used."""
        return dict(self._models.tiers)

    def memory_bytes(self) -> int:
        """Return the same for every model."""
        return _BYTES * (1 + len(self._models.tiers))

    def load(self) -> Load:
        """Return how full it is."""
        rows = sum(run.rows for run in self._drawing.values())
        parked = len(self._parked)
        return Load(len(self._drawing), len(self._waiting), parked, rows, self._most_requests)

    def admit(self, request: Request, reports: Reports) -> None:
        """Take a request; a checkpoint of something else is left aside."""
        step, state = fake_chain.resumed(request)
        self._waiting[request.id] = _Run(request, reports, state, step)

    def cancel(self, request_id: str) -> bool:
        """Stop a request wherever it is."""
        run = self._take_out(request_id)
        if run is None:
            return False
        run.reports.failed(Cancelled("it was cancelled"), run.gpu_ms)
        return True

    def park(self, request_id: str) -> bool:
        """Take one that draws off the device."""
        run = self._drawing.pop(request_id, None)
        if run is None:
            return False
        self._parked[request_id] = run
        return True

    def resume(self, request_id: str) -> bool:
        """Put a parked one back in line."""
        run = self._parked.pop(request_id, None)
        if run is None:
            return False
        self._waiting[request_id] = run
        return True

    def warm(self, folder: ModelFolder, tier: Tier) -> None:
        """Load at the next tick."""
        if tier is not Tier.DISK:
            self._models.wanted[folder.model.pinned] = (folder, tier)

    def evict(self, pinned: str) -> bool:
        """Forget a model."""
        if pinned in self._busy() or pinned not in self._models.tiers:
            return False
        del self._models.tiers[pinned]
        return True

    def on_wake(self, wake: Callable[[], None]) -> None:
        """Set what is called when decoding is worth another tick."""
        self._wake = wake

    def close(self) -> None:
        """There are no threads."""

    def tick(self) -> bool:
        """Decode what is finished, load, start what fits, draw one step of each."""
        self._decode()
        self._load_wanted()
        self._start_waiting()
        packed = self._forward()
        for run in packed:
            self._advance(run, _TICK_MS * run.rows / sum(each.rows for each in packed))
        if self._decoding:
            self._wake()
        return bool(self._drawing)

    def _load_wanted(self) -> None:
        wanted, self._models.wanted = self._models.wanted, {}
        for pinned, (folder, tier) in wanted.items():
            try:
                self._bring(folder, tier)
            except EngineFailure:  # a model that nobody waits for may be missing
                self._models.tiers.pop(pinned, None)

    def _bring(self, folder: ModelFolder, tier: Tier) -> None:
        if folder.model.pinned not in self._models.tiers:
            self._hooks.on_load(folder)
        self._models.use(folder.model.pinned, tier)
        self._models.shrink(self._busy() | {folder.model.pinned})

    def _start_waiting(self) -> None:
        for run in list(self._waiting.values())[: self._most_requests - len(self._drawing)]:
            del self._waiting[run.request.id]
            try:
                self._start(run)
            except Exception as error:  # noqa: BLE001 – whatever a hook raises is the end of this request alone
                run.reports.failed(error, run.gpu_ms)

    def _start(self, run: _Run) -> None:
        spec, folder = run.request.spec, run.request.folder
        if not {use.name for use in spec.loras} <= set(folder.model.loras):
            raise BadInput("the model has no such adapter")
        start_s, known = self._now(), self._models.tiers.get(folder.model.pinned)
        self._bring(folder, Tier.VRAM)
        if known is not Tier.VRAM:
            run.reports.stage("load", start_s, self._now())
        run.reports.stage("encode", start_s, self._now())
        run.began_s = self._now()
        self._drawing[run.request.id] = run

    def _forward(self) -> list[_Run]:
        """Let all that draw share a pass; when it fails, each has one of its own, and those that fail again end."""
        runs = list(self._drawing.values())
        if not runs:
            return []
        try:
            self._hooks.on_forward(tuple(self._drawing))
            return runs
        except Exception:  # noqa: BLE001 – found out below
            return [run for run in runs if self._alone(run)]

    def _alone(self, run: _Run) -> bool:
        try:
            self._hooks.on_forward((run.request.id,))
        except Exception as error:  # noqa: BLE001 – whatever a hook raises is the end of this request alone
            self._fail(run, error)
            return False
        return True

    def _advance(self, run: _Run, share_ms: float) -> None:
        run.gpu_ms += share_ms
        try:
            self._hooks.on_step(run.request, run.step + 1)
            if math.isinf(run.request.spec.guidance_scale):
                raise BadPictures("the numbers ran away while drawing")
        except Exception as error:  # noqa: BLE001 – whatever a hook raises is the end of this request alone
            self._fail(run, error)
            return
        run.step, run.state = run.step + 1, fake_chain.after(run.state, run.step + 1)
        run.reports.step(run.step, run.total, float(run.total - run.step))
        if run.step == run.total:
            run.reports.stage("denoise", run.began_s, self._now())
            self._decoding[run.request.id] = self._drawing.pop(run.request.id)
            return
        if run.request.spec.preview and run.step == 1:
            run.reports.preview(1, run.total, 0, fake_chain.picture(run.state, run.request.spec, 0)[:8, :8])
        if self._due(run.step, run.total, 0.0, float(run.total - run.step)):
            run.reports.checkpoint(run.step, run.total, run.checkpoint())

    def _decode(self) -> None:
        decoding, self._decoding = self._decoding, {}
        for run in decoding.values():
            start_s = self._now()
            spec = run.request.spec
            pictures = tuple(fake_chain.picture(run.state, spec, index) for index in range(spec.images))
            run.reports.stage("decode", start_s, self._now())
            run.reports.done(Drawing(pictures, peak_memory_bytes=_BYTES, gpu_ms=run.gpu_ms))

    def _fail(self, run: _Run, error: Exception) -> None:
        del self._drawing[run.request.id]
        run.reports.stage("denoise", run.began_s, self._now())
        run.reports.failed(error, run.gpu_ms)

    def _take_out(self, request_id: str) -> _Run | None:
        for place in (self._waiting, self._drawing, self._decoding, self._parked):
            if request_id in place:
                return place.pop(request_id)
        return None

    def _busy(self) -> set[str]:
        return {run.request.folder.model.pinned for run in (*self._drawing.values(), *self._decoding.values())}
