"""Models to draw with, and what plain diffusers draws."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import logging as transformers_logging

from services.modelserver.digests import FileDigests
from services.modelserver.engine.classes import LibraryClasses
from services.modelserver.models import ModelFolder, scan
from services.modelserver.settings import SHIPPED_MODELS
from tests.contract.engine.harness import Folders
from tests.contract.engine.solo import Solos
from tests.contract.engine.tiny_pipeline import save_tiny_pipeline

transformers_logging.set_verbosity_error()


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
