"""A model server process whose device hangs at the second step. Run as a module, settings from DARKROOM_* variables."""

from __future__ import annotations

import threading
from pathlib import Path

from libs.generation.model import Model, ModelDefaults, ModelLimits
from services.modelserver import app, fitting, pulse
from services.modelserver.carriers import Urgency
from services.modelserver.engine.batch_table import BatchTable
from services.modelserver.engine.fake import FakeEngine, Hooks
from services.modelserver.models import ModelFolder
from services.modelserver.safety import Permissive
from services.modelserver.settings import ModelServerSettings

MODEL = Model("m", "1", "P", limits=ModelLimits(min_size=16, max_size=64), defaults=ModelDefaults(16, 16, 3))


def hang_here(_request: object, step: int) -> None:
    """Draw one step, then never come back."""
    if step == 2:
        threading.Event().wait()


def fit_out(settings: ModelServerSettings) -> fitting.Fitting:
    """Return an engine that hangs."""
    urgency = Urgency(settings.checkpoints)
    measured = fitting.Measurements(BatchTable("cpu"), settings.data / "batch-table.json")
    folders = (ModelFolder(Path("m"), MODEL),)
    return fitting.Fitting(FakeEngine(Hooks(on_step=hang_here)), folders, Permissive(), urgency, measured)


if __name__ == "__main__":
    pulse.FLOOR_S = pulse.FIRST_TIME_S = 1.0
    app.fit_out = fit_out
    from services.modelserver import __main__ as entry

    entry.serve()
