"""How many rows may draw side by side, of each model on the device and each size that was measured; for telling others.

Worked out anew when something was measured, or models came or left: asking costs nothing between two forwards.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from services.modelserver.engine.batcher import Batcher
from services.modelserver.engine.outfit import Outfit
from services.modelserver.engine.pipeline_run import PipelineRun
from services.modelserver.engine.protocol import ModelLoad, Tier
from services.modelserver.models import ModelFolder

_MOST_SIZES = 8  # of one model that others are told of, those measured last

_Known = tuple[int, tuple[str, ...]]  # the version of the table, the models on the device


class RowCounts:
    """Device thread only."""

    def __init__(self, outfit: Outfit, batcher: Batcher) -> None:
        self._outfit, self._batcher = outfit, batcher
        self._known: _Known | None = None
        self._most: Mapping[str, tuple[tuple[str, int], ...]] = {}
        self.free_bytes: int | None = None  # of the device, when models came or left last

    def tell(
        self, tiers: Mapping[str, Tier], folders: Mapping[str, ModelFolder], runs: Iterable[PipelineRun]
    ) -> tuple[ModelLoad, ...]:
        """Return how full the engine is of each model on the device that was ever asked for."""
        resident = tuple(pinned for pinned, tier in tiers.items() if tier is Tier.VRAM and pinned in folders)
        self._work_out(resident, folders)
        rows = dict.fromkeys(resident, 0)
        for run in runs:
            pinned = run.request.folder.model.pinned
            rows[pinned] = rows.get(pinned, 0) + run.rows
        return tuple(ModelLoad(pinned, rows[pinned], self._most[pinned]) for pinned in resident)

    def _work_out(self, resident: tuple[str, ...], folders: Mapping[str, ModelFolder]) -> None:
        before, self._known = self._known, (self._outfit.table.version, resident)
        if before is None or before[1] != resident:
            self.free_bytes = self._outfit.device.free_bytes()
        if before != self._known:
            self._most = {pinned: self._sizes(folders[pinned]) for pinned in resident}

    def _sizes(self, folder: ModelFolder) -> tuple[tuple[str, int], ...]:
        keys = self._outfit.table.known(folder.model.pinned, "denoise")[:_MOST_SIZES]
        return tuple(sorted((key.bucket, self._batcher.room_at(folder.options, key)) for key in keys))
