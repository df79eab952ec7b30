"""The engine of this process, fitted out from the settings; and its measurements, kept from one start to the next."""

from __future__ import annotations

import asyncio
import importlib.metadata
import logging
import re
import time
from dataclasses import dataclass
from pathlib import Path

from libs.clock import Clock
from services.modelserver.carriers import Urgency
from services.modelserver.digests import FileDigests
from services.modelserver.engine.batch_table import PAYING, BatchTable
from services.modelserver.engine.classes import LibraryClasses
from services.modelserver.engine.device import Device
from services.modelserver.engine.outfit import make_outfit
from services.modelserver.engine.protocol import Engine
from services.modelserver.engine.stepwise import StepwiseEngine
from services.modelserver.models import ModelFolder, scan
from services.modelserver.safety import Checker, open_checker
from services.modelserver.settings import ModelServerSettings
from services.modelserver.shortages import shortages_of

logger = logging.getLogger(__name__)

SAVE_EVERY_S = 60.0
_BUILD = ("torch", "diffusers")  # another version of these may take other times


class Measurements:
    """A batch table and its file."""

    def __init__(self, table: BatchTable, path: Path) -> None:
        self.table, self._path = table, path
        self._saved = table.version

    async def keep(self, clock: Clock) -> None:
        """Save the table now and then until cancelled, and once more at the end."""
        try:
            while True:
                await clock.sleep(SAVE_EVERY_S)
                await asyncio.to_thread(self.save)
        finally:
            self.save()

    def save(self) -> None:
        """Write the table when something is new in it; a disk that is full costs measurements, nothing else."""
        version = self.table.version
        if version == self._saved:
            return
        try:
            self.table.save(self._path)
        except OSError as error:
            logger.warning("batch table not saved", extra={"path": str(self._path), "cause": str(error)})
        else:
            self._saved = version


@dataclass(frozen=True, slots=True)
class Fitting:
    """What a worker draws with."""

    engine: Engine
    folders: tuple[ModelFolder, ...]
    checker: Checker
    urgency: Urgency
    measurements: Measurements


def fit_out(settings: ModelServerSettings) -> Fitting:
    """Open the device and read the model folders; blocks."""
    device = Device(settings.device, settings.threads)
    run = settings.data / "run"
    run.mkdir(parents=True, exist_ok=True)
    path = run / f"batch-table-{re.sub('[^A-Za-z0-9-]', '-', device.info.id)}.json"
    table = BatchTable.load(path, device.info.id, gain=PAYING, build=_build(settings))
    urgency = Urgency(settings.checkpoints)
    shortages = shortages_of(settings.failpoint)
    outfit = make_outfit(
        device,
        table,
        idle_s=settings.idle_s,
        due=urgency.due,
        warms_up=True,
        lacks_memory=lambda request, rows: any(each.strikes(request, rows) for each in shortages),
    )
    outfit.budget_bytes = settings.model_memory_bytes or (
        outfit.budget_bytes if device.is_cuda else device.info.memory_bytes // 2
    )
    folders = scan(settings.model_folders, FileDigests(run / "model-digests.json"), LibraryClasses())
    checker = open_checker(settings.prompt_blocklist, time.monotonic)
    return Fitting(StepwiseEngine(outfit), folders, checker, urgency, Measurements(table, path))


def _build(settings: ModelServerSettings) -> str:
    versions = " ".join(f"{name} {importlib.metadata.version(name)}" for name in _BUILD)
    return f"{versions}, {settings.threads} threads"
