"""Measurements survive a restart, and belong to one device and one build."""

from __future__ import annotations

import asyncio

import pytest
import torch

from libs.testing.clock import ManualClock
from services.modelserver.engine.batch_table import BatchTable, TableKey
from services.modelserver.fitting import SAVE_EVERY_S, Measurements, fit_out
from services.modelserver.settings import ModelServerSettings

KEY = TableKey("m@1", "denoise", "128x128")


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


async def test_measurements_are_saved_now_and_then_and_at_the_end(tmp_path):
    path, clock = tmp_path / "table.json", ManualClock()
    measured = Measurements(BatchTable("cpu"), path)
    keeping = asyncio.create_task(measured.keep(clock))
    await clock.advance(SAVE_EVERY_S)
    assert not path.exists()  # nothing is new
    measured.table.record(KEY, 1, 0.5)
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)
    assert BatchTable.load(path, "cpu").seconds(KEY, 1) == 0.5


def test_a_disk_that_cannot_be_written_costs_measurements_only(tmp_path, caplog):
    measured = Measurements(BatchTable("cpu"), tmp_path / "gone" / "table.json")
    measured.table.record(KEY, 1, 0.5)
    measured.save()
    assert [record.message for record in caplog.records] == ["batch table not saved"]


@pytest.mark.usefixtures("threads")
def test_a_process_fits_itself_out_with_what_the_settings_say(tmp_path):
    settings = ModelServerSettings(data=tmp_path, threads=1, model_memory_gb=0.5, idle_s=60.0)
    fitting = fit_out(settings)
    assert fitting.engine.device.id == "cpu"
    assert [folder.model.usable for folder in fitting.folders] == [True]
    fitting.measurements.table.record(KEY, 2, 0.25)
    fitting.measurements.save()
    assert fit_out(settings).measurements.table.seconds(KEY, 2) == 0.25
    other_threads = ModelServerSettings(data=tmp_path, threads=2)
    assert fit_out(other_threads).measurements.table.seconds(KEY, 2) is None
