"""What a pipeline draws, from its name and its call; what its configuration adds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from libs.generation.model import ModelDefaults, ModelLimits
from services.modelserver.derived import Derived, derive
from services.modelserver.pipelines import REQUIRED, abilities, sibling
from services.modelserver.refusal import Unusable
from tests.unit.services.modelserver.model_folders import INDEX, write_model

WAN_CALL = {"prompt": None, "height": 480, "width": 832, "num_frames": 81}


def derived(
    folder: Path, call: Mapping[str, object], configs: dict[str, dict[str, object]], **index: object
) -> Derived:
    for name, config in configs.items():
        (folder / name).mkdir(exist_ok=True)
        (folder / name / "config.json").write_text(json.dumps(config))
    return derive(folder, {**INDEX, **index}, call)


@pytest.mark.parametrize(
    ("pipeline", "task", "expected"),
    [
        ("StableDiffusionPipeline", "image", "StableDiffusionImg2ImgPipeline"),
        ("StableDiffusionXLInpaintPipeline", "text", "StableDiffusionXLPipeline"),
        ("FluxPipeline", "inpaint", "FluxInpaintPipeline"),
        ("LatentConsistencyModelPipeline", "inpaint", ""),
        ("FluxFillPipeline", "text", ""),
        ("StableVideoDiffusionPipeline", "image", "StableVideoDiffusionPipeline"),
    ],
)
def test_siblings(pipeline: str, task: str, expected: str) -> None:
    assert sibling(pipeline, task) == expected


def test_the_call_tells_what_the_table_does_not() -> None:
    words = abilities("SomePipeline", {"prompt": None})
    assert (words.tasks, words.output, words.strength) == (("text",), "image", 0.0)
    editor = abilities("SomeEditPipeline", {"prompt": None, "image": None})
    assert (editor.tasks, editor.strength) == (("text", "image"), 0.0)
    assert abilities("SomePipeline", {"prompt": None, "image": REQUIRED, "strength": 0.3}).strength == 0.8
    assert abilities("SomeControlNetPipeline", {"prompt": None, "image": None}).tasks == ("image",)
    clip = abilities("SomeVideoPipeline", {"image": REQUIRED, "num_frames": None, "fps": 7})
    assert (clip.tasks, clip.output, clip.frames, clip.fps) == (("image",), "video", 16, 7)


def test_a_pipeline_that_no_request_can_feed_is_not_served() -> None:
    with pytest.raises(Unusable, match="LucyEditPipeline needs video"):
        abilities("LucyEditPipeline", {"prompt": None, "video": REQUIRED, "num_frames": 81})


def test_a_denoiser_made_for_masks_draws_nothing_else(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m")
    told = derived(
        folder, {"prompt": None}, {"unet": {"sample_size": 64, "in_channels": 9}, "vae": {"latent_channels": 4}}
    )
    assert (told.tasks, told.defaults.strength) == (("inpaint",), 1.0)
    told = derived(folder, {"prompt": None}, {"unet": {"sample_size": 64, "in_channels": 4}})
    assert (told.tasks, told.defaults.strength) == (("text", "image", "inpaint"), 0.8)


@pytest.mark.parametrize(
    ("vae", "size_step", "frame_step", "most"),
    [
        ({"scale_factor_temporal": 4, "scale_factor_spatial": 8}, 16, 4, 161),
        ({"temperal_downsample": [False, True, True]}, 16, 4, 161),
        ({"spatio_temporal_scaling": [True, True, True, False], "patch_size": 4, "patch_size_t": 1}, 32, 8, 161),
        ({"temporal_expansions": [1, 2, 3]}, 16, 6, 157),
        ({}, 16, 1, 162),
    ],
)
def test_a_clip_takes_the_steps_of_its_autoencoder(
    tmp_path: Path, vae: dict[str, object], size_step: int, frame_step: int, most: int
) -> None:
    parts = {"_class_name": "WanPipeline", "unet": None, "transformer": ["diffusers", "T"]}
    told = derived(write_model(tmp_path / "m"), WAN_CALL, {"transformer": {}, "vae": vae}, **parts)
    assert (told.limits.size_step, told.limits.frame_step, told.limits.max_frames) == (size_step, frame_step, most)
    assert (told.defaults.width, told.defaults.height, told.defaults.fps) == (832, 480, 16)
    assert (told.tasks, told.output, told.defaults.strength) == (("text",), "video", 0.0)
    assert (told.defaults.frames - 1) % frame_step == 0


def test_a_motion_adapter_bounds_the_frames(tmp_path: Path) -> None:
    parts = {"_class_name": "AnimateDiffPipeline", "motion_adapter": ["diffusers", "MotionAdapter"]}
    configs: dict[str, dict[str, object]] = {"motion_adapter": {"motion_max_seq_length": 24}}
    told = derived(write_model(tmp_path / "m"), {"prompt": None, "num_frames": 16}, configs, **parts)
    assert (told.limits.max_frames, told.defaults.frames, told.defaults.fps) == (24, 16, 8)


def test_pictures_have_no_frames(tmp_path: Path) -> None:
    told = derived(write_model(tmp_path / "m"), {"prompt": None}, {})
    assert told.limits == ModelLimits(64, 1024, 8, 524288, samplers=told.limits.samplers)
    assert told.defaults == ModelDefaults(512, 512, sampler="euler", strength=0.8)
