"""One pipeline call as a coroutine of the device thread: begun, answered call by call, stopped, taken up again.

    begin → call FORWARD → answer → … its own guidance and sampler step … → call FORWARD → … → call DECODE → over

How one goes on from a checkpoint is told in resumption.
"""

from __future__ import annotations

import copy
import functools
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from greenlet import getcurrent, greenlet

from libs.generation.batch_key import AdapterUse
from services.modelserver.engine.arguments import call_arguments, fresh_scheduler
from services.modelserver.engine.calls import Call, Kind, denoiser_standin, suspend, vae_standin
from services.modelserver.engine.checkpoint import Checkpoint
from services.modelserver.engine.embeddings import Embeddings, question_of
from services.modelserver.engine.loading import DENOISERS
from services.modelserver.engine.packing import Topologies
from services.modelserver.engine.preview import Previewer
from services.modelserver.engine.protocol import Reports, Request
from services.modelserver.engine.resumption import Resumption
from services.modelserver.engine.timeline import Timeline

_SMOOTH = 0.3  # weight of the newest step in the time a step takes

logger = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class Part:
    """One request of a run, with what it has cost so far. A cancelled one of several stays in, unheard."""

    request: Request
    reports: Reports
    gpu_ms: float = 0.0
    told: int = 0  # the last step that was reported
    dropped: bool = False
    alone: bool = False  # it failed in a call that it shared, or may not share one
    checkpoint: Checkpoint | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Surroundings:
    """What runs of one model share. `due(step, total, since_s, eta_s)` tells when a checkpoint pays."""

    device: torch.device
    fingerprint: Callable[[Request], str]
    embeddings: Embeddings
    use_on_text_encoders: Callable[[AdapterUse], None]
    now: Callable[[], float]  # monotonic
    unix: Callable[[], float]
    due: Callable[[int, int, float, float], bool]
    on_latents: Callable[[str, torch.Tensor], None]


@dataclass(slots=True, eq=False)
class PipelineRun:
    """See the module. `pipe` is of the class that does this task, with the model's own sampler."""

    pipe: Any
    parts: Sequence[Part]
    adapters: AdapterUse
    around: Surroundings
    topologies: Topologies = field(default_factory=Topologies)
    call: Call | None = None  # what it waits for; None when it has not begun or is over
    output: Any = None
    step: int = 0
    total: int = 0
    rows: int = 0  # of its last forward
    served: float = 0.0  # when it last had a forward, for taking turns
    _greenlet: greenlet | None = None
    _clone: Any = None
    _latents: torch.Tensor | None = None
    _way_back: Resumption = field(default_factory=lambda: Resumption(None, None, ()))
    _step_s: float = 0.0
    _last_s: float = 0.0
    _saved_s: float = 0.0
    _timelines: list[Timeline] = field(default_factory=list)
    _previewer: Previewer | None = None

    @property
    def request(self) -> Request:
        """The first request; all of them ask for the same in everything but words and seeds."""
        return self.parts[0].request

    @property
    def over(self) -> bool:
        """Whether the call has returned."""
        return self._greenlet is not None and self._greenlet.dead

    def begin(self) -> None:
        """Run to the first call. Raises what the pipeline raises, BadInput among it."""
        spec = self.request.spec
        self.topologies = Topologies(strict=self.request.folder.options.strict)
        self._clone = clone = copy.copy(self.pipe)
        clone.__class__ = _placed(type(self.pipe))  # type: ignore[arg-type]
        clone.__dict__["placed_on"] = self.around.device
        clone.__dict__["scheduler"] = fresh_scheduler(self.pipe.scheduler, spec.sampler, spec.steps)
        for name in DENOISERS:
            if getattr(clone, name, None) is not None:
                clone.__dict__[name] = denoiser_standin(getattr(self.pipe, name), self._ask)
        if getattr(clone, "vae", None) is not None:
            clone.__dict__["vae"] = vae_standin(self.pipe.vae, self._ask)
        if hasattr(clone, "encode_prompt"):
            clone.__dict__["encode_prompt"] = self._encode_prompt
        if spec.preview:
            self._previewer = Previewer(self.pipe, clone.scheduler, spec.width, spec.height)
        self._timelines = [Timeline(part.reports, self.around.unix) for part in self.parts]
        self._last_s = self._saved_s = self.around.now()
        arguments = call_arguments(self.pipe, [part.request for part in self.parts], self._on_step_end)
        self._way_back = Resumption(self.parts[0].checkpoint, clone.scheduler, arguments.get("generator", []))
        self._greenlet = greenlet(lambda: clone(**arguments))
        self._take(self._greenlet.switch())

    def answer(self, value: Any) -> None:
        """Give the answer to its call, and run to the next one. Raises what the pipeline raises."""
        assert self._greenlet is not None
        if self.call is not None and self.call.kind is Kind.FORWARD:
            self._way_back.remember(value)
        self.call = None
        self._take(self._greenlet.switch(value))

    def stop(self) -> None:
        """End it where it is."""
        self.call = None
        if self._greenlet is not None and not self._greenlet.dead:
            with torch.set_grad_enabled(torch.is_grad_enabled()):  # unwinding, it would set it
                self._greenlet.throw()  # GreenletExit
        self._greenlet = None

    def close_stages(self) -> None:
        """Tell the stage it was in."""
        for part, timeline in zip(self.parts, self._timelines, strict=False):
            if not part.dropped:
                timeline.close()

    def snapshot(self) -> Checkpoint | None:
        """Return everything to go on after the last step; None before the first, or when it cannot be taken up."""
        if self._latents is None or len(self.parts) > 1:
            return self.parts[0].checkpoint
        return self._way_back.save(self.around.fingerprint(self.request), self.step, self.total, self._latents)

    def eta_s(self) -> float:
        """Return the seconds that the steps left will take at the pace of the latest ones."""
        return self._step_s * max(0, self.total - self.step)

    def _take(self, switched: Any) -> None:
        if self.over:
            self.output = switched
            return
        self.call = switched
        stage = {Kind.FORWARD: "denoise", Kind.DECODE: "decode"}.get(switched.kind)
        if stage is not None and (stage == "denoise" or self.step):
            for part, timeline in zip(self.parts, self._timelines, strict=True):
                if not part.dropped:
                    timeline.enter(stage)

    def _ask(self, call: Call) -> Any:
        if getcurrent() is not self._greenlet:  # a side thread in the midst of a larger piece of work
            return call.run()
        if call.kind is Kind.FORWARD and self.step < self._way_back.step:
            return self._way_back.blank(call)
        return suspend(call)

    def _encode_prompt(self, *args: Any, **kwargs: Any) -> Any:
        kind, clone, adapters = type(self.pipe), self._clone, self.adapters

        def run() -> Any:
            self.around.use_on_text_encoders(adapters)
            return kind.encode_prompt(clone, *args, **kwargs)

        question = question_of(self.request.folder.model.pinned, adapters, kind.__name__, args, kwargs)
        return self.around.embeddings.get(question, lambda: self._ask(Call(Kind.ENCODE, run)))

    def _on_step_end(self, pipe: Any, index: int, _timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        self.step = index + 1
        self._way_back.begin_step()
        self.total = getattr(pipe, "num_timesteps", 0) or self.request.spec.steps
        if self.step < self._way_back.step:
            return {}
        if self.step == self._way_back.step:
            self._latents, self._last_s = self._way_back.restore(tensors.get("latents")), self.around.now()
            return {"latents": self._latents}
        self._latents = tensors.get("latents")
        self._measure()
        self._tell()
        return {}

    def _measure(self) -> None:
        now = self.around.now()
        taken_s, self._last_s = now - self._last_s, now
        self._step_s = taken_s if self._step_s == 0.0 else (1 - _SMOOTH) * self._step_s + _SMOOTH * taken_s

    def _tell(self) -> None:
        for part in self.parts:
            if not part.dropped and self.step > part.told:  # it may have been here before, in a call that failed
                part.told = self.step
                part.reports.step(self.step, self.total, self.eta_s())
        if self._latents is None:
            return
        if self.step == self.total:
            self._show_latents(self._latents)
            return
        self._show()
        now = self.around.now()
        if len(self.parts) == 1 and self.around.due(self.step, self.total, now - self._saved_s, self.eta_s()):
            self._saved_s = now
            saved = self.snapshot()
            if saved is not None:
                self.parts[0].reports.checkpoint(self.step, self.total, saved.to_bytes())

    def _show_latents(self, latents: torch.Tensor) -> None:
        images = self.request.spec.images
        for index, part in enumerate(self.parts):
            if not part.dropped:
                rows = latents if len(self.parts) == 1 else latents[index * images : (index + 1) * images]
                self.around.on_latents(part.request.id, rows)

    def _show(self) -> None:
        if self._previewer is None or self._latents is None or len(self.parts) > 1:
            return
        try:
            pictures = self._previewer.pictures(self._latents)
        except Exception as error:  # noqa: BLE001 – a picture that cannot be shown yet is no reason not to draw it
            extra = {"job_id": self.request.id, "error": type(error).__name__}
            logger.warning("no previews of a drawing", extra=extra)
            self._previewer = None
            return
        for index, pixels in enumerate(pictures):
            self.parts[0].reports.preview(self.step, self.total, index, pixels)


@functools.cache
def _placed(kind: type) -> type:
    """Return a pipeline's class with its device told: it would look through all modules for it, several times a call."""
    found = property(lambda self: self.__dict__["placed_on"])
    return type(kind.__name__, (kind,), {"_execution_device": found, "__module__": kind.__module__})
