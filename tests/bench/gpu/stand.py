"""What is measured on what: the device, the models, and how much of everything, at full size and tiny."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from libs.generation.spec import GenerationSpec, SpecRequest, resolve
from services.modelserver.engine.batch_table import BatchTable
from services.modelserver.engine.device import Device
from services.modelserver.engine.outfit import make_outfit
from services.modelserver.engine.stepwise import StepwiseEngine
from services.modelserver.models import ModelFolder
from tests.bench.gpu.sized_models import REAL, TINY, SizedModel, folder_of, loader

_WORDS = ("red circle", "blue square", "green star", "yellow heart", "white house", "black cat", "old boat")


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is done. Seconds bound what a faster or slower GPU would otherwise make short or endless."""

    sizes: tuple[int, ...]  # sides of the pictures in pixels
    steps: int
    rounds: int  # in which ways take turns
    repeats: int  # of a pass in the batch table
    most_rows: int
    most_decoded: int
    longest_pass_s: float  # no more rows after one that took longer
    requests: tuple[int, int]  # least and most in a run under load
    load_s: float  # of serial drawing in a run under load, between those bounds
    calm_steps: int  # drawn alone, to compare with what is drawn while a model is loaded


FULL = Scale((512, 1024), 20, 3, 3, 64, 16, 2.0, (24, 48), 40.0, 100)
SMALL = Scale((16, 32), 4, 2, 2, 4, 2, 2.0, (4, 6), 0.1, 4)


@dataclass(frozen=True, slots=True)
class Stand:
    """Where the parts are measured. `place` is a folder for files of models, left empty again."""

    device: Device
    models: tuple[SizedModel, ...]
    scale: Scale
    place: Path
    seed: int = 7

    @property
    def tiny(self) -> bool:
        """Whether only the commands themselves are tried."""
        return self.scale is SMALL

    def model(self, name: str) -> SizedModel | None:
        """Return a model, None when it is not to be measured."""
        return next((model for model in self.models if model.id == name), None)

    def engine(self, table: BatchTable | None = None, **options: Any) -> StepwiseEngine:
        """Return an engine that makes these models where it needs them, unless it is given another `load`."""
        options = {"load": loader(self.models, self.device), **options}
        return StepwiseEngine(make_outfit(self.device, table or BatchTable(self.device.info.id), **options))


def open_stand(device: Device, wanted: tuple[str, ...], place: Path, *, tiny: bool) -> Stand:
    """Return a stand with those of the wanted models that the device has memory for."""
    models = []
    for model in TINY if tiny else REAL:
        if model.id in wanted and device.info.memory_bytes < model.least_bytes:
            print(f"{model.title} is left out: it takes a device with {model.least_bytes / 1e9:.0f} GB.")
        elif model.id in wanted:
            models.append(model)
    return Stand(device, tuple(models), SMALL if tiny else FULL, place)


def unwritten(model: SizedModel) -> ModelFolder:
    """Return the folder of a model that has no files."""
    return folder_of(model, Path("unwritten"))


def spec_maker(folder: ModelFolder, size: int, steps: int, **more: Any) -> Callable[[int], GenerationSpec]:
    """Return what makes the spec of request number n: equal in all but words and seed."""

    def spec(number: int) -> GenerationSpec:
        prompt = f"a {_WORDS[number % len(_WORDS)]}"
        request = SpecRequest(prompt=prompt, seed=number, width=size, height=size, steps=steps, **more)
        return resolve(request, folder.model, 0)

    return spec
