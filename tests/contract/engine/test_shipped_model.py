"""The default model through the engine: what plain diffusers draws; nothing of a prompt in anybody's words."""

from __future__ import annotations

import dataclasses
import logging

import diffusers
import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline

from libs.generation.spec import SpecRequest, resolve
from services.modelserver.engine.arguments import call_arguments
from services.modelserver.engine.classes import LibraryClasses
from services.modelserver.engine.protocol import BadInput, Request
from services.modelserver.samplers import SAMPLERS
from tests.contract.engine.harness import Stage
from tests.contract.engine.step_driver import Said

pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning"),
    pytest.mark.usefixtures("one_thread"),
]


def _draw(stage, folder, **fields):
    spec, said = resolve(SpecRequest(**fields), folder.model, 0), Said()
    stage.engine.admit(Request("drawn", folder, spec), said)
    stage.finish(said)
    return spec, said.pictures


@pytest.mark.parametrize("fields", [{}, {"guidance_scale": 1.0}, {"negative_prompt": "green"}, {"sampler": "euler_a"}])
def test_a_picture_is_identical_to_plain_diffusers(shipped_folder, fields):
    stage = Stage()
    spec, (drawn,) = _draw(stage, shipped_folder, prompt="a green star", steps=4, seed=11, **fields)
    stage.engine.close()
    plain = DiffusionPipeline.from_pretrained(str(shipped_folder.path), local_files_only=True, dtype=torch.float32)
    plain.set_progress_bar_config(disable=True)
    plain.scheduler = getattr(diffusers, SAMPLERS[spec.sampler]).from_config(plain.scheduler.config)
    image = plain(
        spec.prompt, negative_prompt=spec.negative_prompt or None, width=spec.width, height=spec.height,
        num_inference_steps=4, guidance_scale=spec.guidance_scale, generator=torch.Generator().manual_seed(11),
    ).images[0]  # fmt: skip
    assert np.array_equal(drawn, np.asarray(image))


def test_a_long_prompt_is_not_quoted_by_the_libraries(tiny_folder, caplog, capfd):
    stage = Stage()
    with caplog.at_level(logging.DEBUG):
        _draw(stage, tiny_folder, prompt="quetzal " * 200, steps=1, seed=1)
    stage.engine.close()
    captured = capfd.readouterr()
    assert "quetzal" not in caplog.text + captured.err + captured.out


def test_classes_are_known_only_when_the_libraries_bring_them():
    known = LibraryClasses()
    assert known.pipeline("StableDiffusionXLPipeline")
    assert known.component("transformers", "CLIPTextModel")
    assert known.component("diffusers", "EulerDiscreteScheduler")
    assert known.component("stable_diffusion", "StableDiffusionSafetyChecker")
    assert not known.pipeline("UNet2DConditionModel")
    assert not known.pipeline("MyPipeline")
    for library, name in (("os", "system"), ("transformers", "pipeline"), ("diffusers", "utils"), ("mine", "Model")):
        assert not known.component(library, name), (library, name)


class Bare:
    """A pipeline that takes a prompt and steps."""

    def __call__(self, prompt, num_inference_steps, output_type):
        raise NotImplementedError


def _request(folder, **fields):
    return Request("asked", folder, resolve(SpecRequest(prompt="x", seed=1, **fields), folder.model, 0))


def test_pipelines_get_only_the_arguments_they_take(tiny_folder):
    arguments = call_arguments(Bare(), [_request(tiny_folder, images=2)], lambda *_: {})
    assert arguments == {"prompt": ["x", "x"], "num_inference_steps": 3, "output_type": "np"}


def test_a_pipeline_that_takes_no_picture_is_not_given_one(tiny_folder):
    pixels = np.zeros((32, 32, 3), dtype=np.uint8)
    with pytest.raises(BadInput, match="takes no image"):
        call_arguments(Bare(), [dataclasses.replace(_request(tiny_folder), image=pixels)], lambda *_: {})
