"""Who waits to begin, and who is next: in the order of arrival, as rows and models allow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from libs.generation.rows import rows_of
from services.modelserver.engine.batch_table import TableKey
from services.modelserver.engine.batcher import Batcher, rows_allowed, table_key_of
from services.modelserver.engine.outfit import Outfit
from services.modelserver.engine.pipeline_run import Part, PipelineRun
from services.modelserver.engine.protocol import Request, Tier
from services.modelserver.engine.residency import Loaded, Residency
from services.modelserver.models import ModelFolder

_MOST_TOGETHER = 8  # requests in one call of a pipeline whose denoiser is not packed


class Line:
    """Device thread only."""

    def __init__(self, outfit: Outfit, residency: Residency, batcher: Batcher) -> None:
        self._outfit = outfit
        self._residency = residency
        self._batcher = batcher
        self._waiting: list[Part] = []
        self._folders: dict[str, ModelFolder] = {}  # of models asked for so far

    def __len__(self) -> int:
        return len(self._waiting)

    def join(self, part: Part, *, first: bool = False) -> None:
        """Let a request wait, and its model come."""
        self._waiting.insert(0 if first else len(self._waiting), part)
        self.bring(part.request.folder, Tier.VRAM)

    def bring(self, folder: ModelFolder, tier: Tier) -> None:
        """Let a model come."""
        self._folders[folder.model.pinned] = folder
        self._residency.want(folder, tier)

    @property
    def folders(self) -> Mapping[str, ModelFolder]:
        """The models that were ever asked for."""
        return self._folders

    def models(self) -> set[str]:
        """Return the models that somebody waits for."""
        return {part.request.folder.model.pinned for part in self._waiting}

    def leave(self, request_id: str) -> Part | None:
        """Take a request out."""
        part = next((part for part in self._waiting if part.request.id == request_id), None)
        if part is not None:
            self._waiting.remove(part)
            pinned = part.request.folder.model.pinned
            if pinned not in self.models():
                self._residency.unwant(pinned)
        return part

    def leave_model(self, pinned: str) -> list[Part]:
        """Take out all that wait for a model."""
        gone = [part for part in self._waiting if part.request.folder.model.pinned == pinned]
        self._waiting = [part for part in self._waiting if part not in gone]
        return gone

    def clear(self) -> list[Part]:
        """Take out everybody."""
        gone, self._waiting = self._waiting, []
        return gone

    def tell_loaded(self, loaded: Loaded) -> None:
        """Tell those who waited for a model how long its load took."""
        for part in self._waiting:
            if part.request.folder.model.pinned == loaded.pinned and loaded.tier is Tier.VRAM:
                part.reports.stage("load", loaded.start_s, loaded.end_s)

    def next(self, runs: Sequence[PipelineRun]) -> list[Part] | None:
        """Return who begins now, in one call of a pipeline; None when nobody can."""
        closed = set(self._residency.closed())  # models that must make room for one that has waited longer
        for part in list(self._waiting):
            pinned = part.request.folder.model.pinned
            if self._residency.on_device(pinned) is None:
                self._residency.want(part.request.folder)
                closed |= self._residency.blocked_by(pinned)
            elif pinned not in closed:
                if not self._has_rows(part.request, runs):
                    return None
                return self._taken(part)
        return None

    def most_requests(self) -> int:
        """Return how many requests pay to be drawn together, for the model that allows most."""
        best = 1
        for pinned in self._residency.tiers().keys() & self._folders.keys():
            defaults, options = self._folders[pinned].model.defaults, self._folders[pinned].options
            key = TableKey.of(pinned, "denoise", defaults.width, defaults.height, defaults.frames)
            rows = self._outfit.table.room(key, rows_allowed(options))
            best = max(best, rows // (2 if defaults.guidance_scale > 1 else 1))
        return best

    def _has_rows(self, request: Request, runs: Sequence[PipelineRun]) -> bool:
        if not runs:
            return True
        in_use = sum(run.rows or rows_of(run.request.spec) * len(run.parts) for run in runs)
        return in_use + rows_of(request.spec) <= self._batcher.room(request)

    def _taken(self, part: Part) -> list[Part]:
        """Take a request out, with those that can share its call when its denoiser is not packed."""
        parts, alike, request = [part], _alike(part), part.request
        if alike is not None and self._outfit.shares_calls(self._residency, request):
            wanted = request.folder.options.most_rows or _MOST_TOGETHER
            most = self._outfit.table.best_rows(table_key_of(request, "denoise"), wanted)
            rows = rows_of(request.spec)  # of each: they are alike
            others = [each for each in self._waiting if each is not part and _alike(each) == alike]
            parts += others[: max(0, most // rows - 1)]
        self._waiting = [each for each in self._waiting if each not in parts]
        return parts


def _alike(part: Part) -> object | None:
    """Return what requests of one pipeline call have in common: everything but words and seeds; None: it shares none."""
    request, spec = part.request, part.request.spec
    resumed = part.checkpoint is not None or bool(request.checkpoint)
    if part.alone or resumed or request.folder.options.strict or request.image is not None or spec.preview:
        return None
    return (
        request.folder.model.pinned,
        (spec.width, spec.height, spec.frames, spec.fps, spec.images),
        (spec.steps, spec.guidance_scale, spec.sampler, spec.loras),
    )
