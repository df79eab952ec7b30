"""The engines under test, each with a model and a way to break its next drawing."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from transformers import logging as transformers_logging

from services.modelserver.digests import FileDigests
from services.modelserver.engine.classes import LibraryClasses
from services.modelserver.engine.device import Device
from services.modelserver.engine.protocol import Engine
from services.modelserver.engine.whole import WholePipelineEngine
from services.modelserver.models import ModelFolder, scan
from services.modelserver.settings import SHIPPED_MODELS
from tests.contract.engine.harness import Folders
from tests.contract.engine.solo import Solos
from tests.contract.engine.tiny_pipeline import save_tiny_pipeline

transformers_logging.set_verbosity_error()


@dataclass(frozen=True)
class Setup:
    engine: Engine
    folder: ModelFolder
    broken: Callable[[Exception | None], AbstractContextManager[None]]  # None: NaN instead of an exception


def _folder(path: Path, remembered: Path) -> ModelFolder:
    (folder,) = scan([path], FileDigests(remembered), LibraryClasses())
    assert folder.model.usable, folder.model.unusable_reason
    return folder


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory) -> ModelFolder:
    place = tmp_path_factory.mktemp("models")
    return _folder(save_tiny_pipeline(place / "tiny"), place / "digests.json")


@pytest.fixture(scope="session")
def shipped_folder(tmp_path_factory) -> ModelFolder:
    return _folder(SHIPPED_MODELS, tmp_path_factory.mktemp("digests") / "digests.json")


@pytest.fixture(scope="session")
def folders(tmp_path_factory) -> Folders:
    """A tiny pipeline of each family."""
    return Folders(tmp_path_factory.mktemp("families"))


@pytest.fixture(scope="session")
def solos() -> Solos:
    """What plain diffusers draws."""
    return Solos()


@pytest.fixture(scope="module")
def one_thread():
    """As the device has; sums of several threads come in another order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def _whole(folder: ModelFolder) -> Setup:
    engine = WholePipelineEngine(Device("cpu", threads=1))

    @contextmanager
    def broken(raised):
        def spoil(_module, _inputs, output):
            if raised is not None:
                raise raised
            return (output[0] * float("nan"),)

        unet = engine._pipes[folder.model.pinned].unet
        hook = unet.register_forward_hook(spoil)
        yield
        hook.remove()

    return Setup(engine, folder, broken)


@pytest.fixture(scope="module", params=["tiny", "shipped"])
def setup(request, tiny_folder, shipped_folder) -> Setup:
    before = torch.get_num_threads()
    made = _whole(tiny_folder if request.param == "tiny" else shipped_folder)
    made.engine.load(made.folder)
    yield made
    torch.set_num_threads(before)
