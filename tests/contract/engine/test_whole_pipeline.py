"""What is peculiar to the whole-pipeline lane: it draws exactly what plain diffusers draws, and keeps one model."""

from __future__ import annotations

import dataclasses
import logging

import diffusers
import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline

from libs.generation.spec import SpecRequest, resolve
from services.modelserver.digests import FileDigests
from services.modelserver.engine.classes import LibraryClasses
from services.modelserver.engine.device import Device
from services.modelserver.engine.protocol import ModelBroken, OutOfMemory
from services.modelserver.engine.whole import WholePipelineEngine
from services.modelserver.models import scan
from services.modelserver.samplers import SAMPLERS
from tests.contract.engine.test_engine import Said
from tests.contract.engine.tiny_pipeline import save_tiny_pipeline

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning")


@pytest.fixture
def engine():
    before = torch.get_num_threads()
    yield WholePipelineEngine(Device("cpu", threads=1))
    torch.set_num_threads(before)


@pytest.mark.parametrize("fields", [{}, {"guidance_scale": 1.0}, {"negative_prompt": "green"}, {"sampler": "euler_a"}])
def test_a_picture_is_identical_to_plain_diffusers(engine, shipped_folder, fields):
    spec = resolve(SpecRequest(prompt="a green star", steps=4, seed=11, **fields), shipped_folder.model, 0)
    engine.load(shipped_folder)
    drawn = engine.draw(shipped_folder.model.pinned, spec, Said()).pictures[0]
    plain = DiffusionPipeline.from_pretrained(str(shipped_folder.path), local_files_only=True, dtype=torch.float32)
    plain.set_progress_bar_config(disable=True)
    plain.scheduler = getattr(diffusers, SAMPLERS[spec.sampler]).from_config(plain.scheduler.config)
    image = plain(
        spec.prompt, negative_prompt=spec.negative_prompt or None, width=spec.width, height=spec.height,
        num_inference_steps=4, guidance_scale=spec.guidance_scale, generator=torch.Generator().manual_seed(11),
    ).images[0]  # fmt: skip
    assert np.array_equal(drawn, np.asarray(image))


def test_loading_another_model_lets_the_first_one_go(engine, tiny_folder, shipped_folder):
    engine.load(tiny_folder)
    engine.load(shipped_folder)
    assert engine.resident == (shipped_folder.model.pinned,)


def test_weights_that_do_not_fit_their_config_break_the_model_alone(engine, tiny_folder, tmp_path):
    broken = save_tiny_pipeline(tmp_path / "broken")
    config = broken / "unet" / "config.json"
    config.write_text(config.read_text().replace('"cross_attention_dim": 16', '"cross_attention_dim": 32'))
    (folder,) = scan([broken], FileDigests(tmp_path / "digests"), LibraryClasses())
    assert folder.model.usable  # every file is whole
    with pytest.raises(ModelBroken, match="does not load"):
        engine.load(folder)
    assert engine.resident == ()
    engine.load(tiny_folder)
    assert engine.resident == (tiny_folder.model.pinned,)


def test_a_device_without_memory_is_not_the_models_fault(engine, tiny_folder, monkeypatch):
    def full(*_args, **_kwargs):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(DiffusionPipeline, "from_pretrained", full)
    with pytest.raises(OutOfMemory):
        engine.load(tiny_folder)


def test_a_long_prompt_is_not_quoted_by_the_libraries(engine, tiny_folder, caplog, capfd):
    spec = resolve(SpecRequest(prompt="quetzal " * 200, steps=1, seed=1), tiny_folder.model, 0)
    with caplog.at_level(logging.DEBUG):
        engine.load(tiny_folder)
        engine.draw(tiny_folder.model.pinned, spec, Said())
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


def test_pipelines_get_only_the_arguments_they_take(engine, tiny_folder, monkeypatch):
    engine.load(tiny_folder)
    pinned = tiny_folder.model.pinned
    whole = engine._pipes[pinned]

    class Bare:
        """Takes a prompt and steps, tells nothing."""

        scheduler = whole.scheduler

        def __call__(self, prompt, num_inference_steps, output_type):
            assert (prompt, num_inference_steps, output_type) == (["x", "x"], 3, "np")
            return type("Output", (), {"images": np.ones((2, 8, 8, 3), dtype=np.float32)})()

    monkeypatch.setitem(engine._pipes, pinned, Bare())
    spec = resolve(SpecRequest(prompt="x", images=2, seed=1), tiny_folder.model, 0)
    said = Said()
    pictures = engine.draw(pinned, dataclasses.replace(spec, guidance_scale=0), said).pictures
    assert [p.max() for p in pictures] == [255, 255]
    assert [name for name, _, _ in said.stages] == ["encode"]
    assert said.steps == [(3, 3)]
