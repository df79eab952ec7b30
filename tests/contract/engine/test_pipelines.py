"""The table of pipelines against diffusers itself."""

from __future__ import annotations

import inspect

import diffusers
import pytest
from diffusers.pipelines import auto_pipeline

from services.modelserver import pipelines
from services.modelserver.engine.classes import LibraryClasses
from services.modelserver.pipelines import Abilities, abilities, sibling

STARTS = ("StableDiffusionPipeline", "StableDiffusionXLPipeline", "StableDiffusion3Pipeline", "FluxPipeline",
          "QwenImagePipeline", "ZImagePipeline", "LatentConsistencyModelPipeline", "Kandinsky3Pipeline")  # fmt: skip
TASKS = {
    "image": auto_pipeline.AUTO_IMAGE2IMAGE_PIPELINES_MAPPING,
    "inpaint": auto_pipeline.AUTO_INPAINT_PIPELINES_MAPPING,
}


@pytest.mark.parametrize("start", STARTS)
def test_siblings_are_those_of_auto_pipeline(start: str) -> None:
    kinds = auto_pipeline.AUTO_TEXT2IMAGE_PIPELINES_MAPPING
    (family,) = [name for name, kind in kinds.items() if kind.__name__ == start]
    for task, mapping in TASKS.items():
        assert sibling(start, task) == (mapping[family].__name__ if family in mapping else "")


@pytest.mark.parametrize("family", pipelines._FAMILIES, ids=lambda family: next(iter(family.values())))
def test_siblings_exist_and_take_the_same_parts(family: dict[str, str]) -> None:
    """Options of the watermark and of the refiner's scores aside, which have defaults."""
    parts = {name: inspect.signature(getattr(diffusers, name).__init__).parameters for name in family.values()}
    needed = [{n for n, p in taken.items() if p.default is p.empty and n != "kwargs"} for taken in parts.values()]
    assert all(one == needed[0] for one in needed)
    for task, name in family.items():
        taken = LibraryClasses().parameters(name)
        assert task != "inpaint" or "mask_image" in taken
        assert task == "text" or "image" in taken
        given = abilities(name, taken).strength
        drawn_over = LibraryClasses().parameters(family.get("image", family.get("inpaint", "")))
        assert not given or "strength" in drawn_over


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("AnimateDiffPipeline", Abilities(("text",), "video", frames=16, fps=8)),
        ("StableVideoDiffusionPipeline", Abilities(("image",), "video", 0.0, 1024, 576, 16, 7)),
        ("WanPipeline", Abilities(("text",), "video", 0.0, 832, 480, 81, 16)),
        ("WanImageToVideoPipeline", Abilities(("image",), "video", 0.0, 832, 480, 81, 16)),
        ("LTXPipeline", Abilities(("text", "image"), "video", 0.0, 704, 512, 161, 25)),
        ("FluxKontextPipeline", Abilities(("text", "image"))),
        ("StableDiffusionInstructPix2PixPipeline", Abilities(("image",))),
        ("SanaPipeline", Abilities(("text",), "image", 0.0, 1024, 1024)),
    ],
)
def test_other_pipelines_are_read_from_their_call(name: str, expected: Abilities) -> None:
    assert abilities(name, LibraryClasses().parameters(name)) == expected
