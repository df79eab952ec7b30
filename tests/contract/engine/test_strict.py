"""Strict models: the same bits whatever is drawn beside."""

from __future__ import annotations

import pytest
import torch

from tests.contract.engine.harness import Folders, Stage, Wish

pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning"),
    pytest.mark.usefixtures("one_thread"),
]


def _latents(stage, folder, neighbours) -> torch.Tensor:
    said = [stage.admit(folder, Wish("sd15", seed=5, sampler="euler_a"))]
    said += [stage.admit(folder, Wish("sd15", seed=seed, guidance=1.0 + seed)) for seed in range(neighbours)]
    stage.finish(*(one for _, _, one in said))
    return stage.latents[said[0][0]]


def test_a_picture_of_a_strict_model_is_the_same_to_the_bit_whatever_its_neighbours(tmp_path):
    folder = Folders(tmp_path, options="strict = true\nmost_rows = 8")["sd15"]
    stage = Stage()
    alone, beside = _latents(stage, folder, 0), [_latents(stage, folder, neighbours) for neighbours in (1, 2, 3, 6)]
    occupancy = stage.engine.stats().occupancy
    stage.engine.close()
    assert max(occupancy) > 2  # they did share forwards
    assert all(torch.equal(alone, each) for each in beside)


def test_idle_rows_change_nothing_but_the_time(tmp_path):
    usual, strict = Folders(tmp_path / "a")["sd15"], Folders(tmp_path / "b", options="strict = true")["sd15"]
    stage = Stage()
    difference = (_latents(stage, usual, 2) - _latents(stage, strict, 2)).abs().max()
    stage.engine.close()
    assert difference < 1e-4
