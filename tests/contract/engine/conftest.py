"""Models to draw with, and what plain diffusers draws."""

from __future__ import annotations

import pytest
import torch
from transformers import logging as transformers_logging

from services.modelserver.models import ModelFolder
from services.modelserver.settings import SHIPPED_MODELS
from tests.contract.engine.harness import Folders, scanned
from tests.contract.engine.solo import Solos
from tests.contract.engine.tiny_pipeline import save_tiny_pipeline

transformers_logging.set_verbosity_error()


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory) -> ModelFolder:
    place = tmp_path_factory.mktemp("models")
    return scanned(save_tiny_pipeline(place / "tiny"), place / "digests.json")


@pytest.fixture(scope="session")
def shipped_folder(tmp_path_factory) -> ModelFolder:
    return scanned(SHIPPED_MODELS, tmp_path_factory.mktemp("digests") / "digests.json")


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
