"""The shipped folder: small, safe, described truly, and it draws what it is told."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
import torch

from libs.generation.model import ModelDefaults, ModelLimits
from services.modelserver import default_model
from services.modelserver.default_model.training.evaluate import Drawing, draw_and_judge, load_pipeline
from services.modelserver.default_model.training.judge import held_out_prompts

FOLDER = Path(default_model.__file__).parent / "shapes"
MOST_BYTES = 20_000_000


def test_it_is_small_and_holds_no_pickle():
    files = [path for path in FOLDER.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= MOST_BYTES
    assert {path.suffix for path in files} == {".json", ".safetensors", ".toml"}


def test_its_description_is_understood_and_its_defaults_are_within_its_limits():
    told = tomllib.loads((FOLDER / "darkroom.toml").read_text())
    limits, defaults = ModelLimits(**told["limits"]), ModelDefaults(**told["defaults"])
    assert told["aliases"] == ["default"]
    for size in (defaults.width, defaults.height):
        assert limits.min_size <= size <= limits.max_size
        assert size % limits.size_step == 0
    assert defaults.width * defaults.height <= limits.max_pixels
    assert defaults.sampler in limits.samplers


# diffusers' Euler schedule hands a tensor to numpy in a way that numpy 2 warns of.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_it_draws_prompts_that_were_never_trained():
    pipeline = load_pipeline(FOLDER, torch.device("cpu"))
    judged = list(draw_and_judge(pipeline, held_out_prompts(11, 4, 4), Drawing()))
    assert sum(each.verdict.right for each in judged) >= 7
