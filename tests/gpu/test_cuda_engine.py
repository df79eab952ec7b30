"""The engine on a real GPU; skipped where there is none."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

from libs.generation.spec import SpecRequest, resolve
from services.modelserver.digests import FileDigests
from services.modelserver.engine.batch_table import BatchTable
from services.modelserver.engine.classes import LibraryClasses
from services.modelserver.engine.device import Device
from services.modelserver.engine.outfit import make_outfit
from services.modelserver.engine.protocol import OutOfMemory, Request
from services.modelserver.engine.stepwise import StepwiseEngine
from services.modelserver.gpu import open_gpu
from services.modelserver.models import scan
from services.modelserver.settings import SHIPPED_MODELS
from tests.contract.engine.step_driver import Said

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU"),
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    (found,) = scan([SHIPPED_MODELS], FileDigests(tmp_path_factory.mktemp("d") / "digests"), LibraryClasses())
    return found


def _engine(device):
    return StepwiseEngine(make_outfit(Device(device), BatchTable(device)))


@pytest.fixture(scope="module")
def engine():
    made = _engine("cuda:0")
    yield made
    made.close()


def _drawn(engine, folder, **fields):
    spec = resolve(SpecRequest(prompt="a red circle left of a blue square", seed=3, **fields), folder.model, 0)
    said, woken = Said(), threading.Event()
    engine.on_wake(woken.set)
    engine.admit(Request("drawn", folder, spec), said)
    while not said.over:
        woken.clear()
        assert engine.tick() or woken.wait(30)
    return said.ends[0] if isinstance(said.ends[0], Exception) else said.pictures


def test_the_device_is_known_by_its_uuid_and_read(engine):
    assert engine.device.id.startswith("GPU-")
    reading = open_gpu(engine.device.id).read()
    assert 0 < reading.memory_used_bytes <= engine.device.memory_bytes


def test_a_picture_is_the_one_that_a_cpu_draws(engine, folder):
    on_cpu = _engine("cpu")
    (one,), (other,) = _drawn(engine, folder), _drawn(on_cpu, folder)
    on_cpu.close()
    assert np.abs(one.astype(int) - other.astype(int)).mean() < 4  # the same noise, other kernels


def test_memory_that_does_not_suffice_fails_the_drawing_alone(engine, folder):
    _drawn(engine, folder)
    torch.cuda.set_per_process_memory_fraction(0.0005)
    try:
        assert isinstance(_drawn(engine, folder, images=4), OutOfMemory)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert len(_drawn(engine, folder)) == 1
