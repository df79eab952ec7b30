"""The engine on a real GPU; skipped where there is none."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from libs.generation.spec import SpecRequest, resolve
from services.modelserver.digests import FileDigests
from services.modelserver.engine.classes import LibraryClasses
from services.modelserver.engine.device import Device
from services.modelserver.engine.protocol import OutOfMemory
from services.modelserver.engine.whole import WholePipelineEngine
from services.modelserver.gpu import open_gpu
from services.modelserver.models import scan
from services.modelserver.settings import SHIPPED_MODELS
from tests.contract.engine.test_engine import Said

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU"),
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    (found,) = scan([SHIPPED_MODELS], FileDigests(tmp_path_factory.mktemp("d") / "digests"), LibraryClasses())
    return found


@pytest.fixture(scope="module")
def engine(folder):
    engine = WholePipelineEngine(Device("cuda:0"))
    engine.load(folder)
    return engine


def _spec(folder, **fields):
    return resolve(SpecRequest(prompt="a red circle left of a blue square", seed=3, **fields), folder.model, 0)


def test_the_device_is_known_by_its_uuid_and_read(engine):
    assert engine.device.id.startswith("GPU-")
    reading = open_gpu(engine.device.id).read()
    assert 0 < reading.memory_used_bytes <= engine.device.memory_bytes


def test_a_picture_is_the_one_that_a_cpu_draws(engine, folder):
    on_gpu, on_cpu = engine, WholePipelineEngine(Device("cpu"))
    on_cpu.load(folder)
    one, other = (e.draw(folder.model.pinned, _spec(folder), Said()).pictures[0] for e in (on_gpu, on_cpu))
    assert np.abs(one.astype(int) - other.astype(int)).mean() < 4  # the same noise, other kernels


def test_memory_that_does_not_suffice_fails_the_drawing_alone(engine, folder):
    torch.cuda.set_per_process_memory_fraction(0.0005)
    try:
        with pytest.raises(OutOfMemory):
            engine.draw(folder.model.pinned, _spec(folder, images=4), Said())
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert engine.draw(folder.model.pinned, _spec(folder), Said()).peak_memory_bytes > 0
