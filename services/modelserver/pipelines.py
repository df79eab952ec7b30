"""What a class of pipeline can draw: from text, over a picture, under a mask; pictures or clips. No import of diffusers.

A pipeline has siblings: classes that draw another task with the very same parts (diffusers' AutoPipeline knows them;
a test holds this table against it). Of pipelines that are not in the table the call itself tells: whether it takes a
prompt, a picture, a number of frames.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from libs.generation.model import IMAGE, INPAINT, STILL, TEXT, VIDEO
from services.modelserver.refusal import Unusable

Parameters = Mapping[str, object]  # of a pipeline's call, by name: the default, or REQUIRED
REQUIRED = ...

_STRENGTH, _WHOLE = 0.8, 1.0
_FRAMES, _FPS = 16, 8  # of a pipeline that does not say

_FAMILIES: tuple[Mapping[str, str], ...] = (
    *(
        {TEXT: f"{name}Pipeline", IMAGE: f"{name}Img2ImgPipeline", INPAINT: f"{name}InpaintPipeline"}
        for name in (
            *("StableDiffusion", "StableDiffusionXL", "StableDiffusion3", "Flux", "QwenImage", "ZImage", "Chroma"),
        )
    ),
    *({TEXT: f"{name}Pipeline", IMAGE: f"{name}Img2ImgPipeline"} for name in ("LatentConsistencyModel", "Kandinsky3")),
    {IMAGE: "QwenImageEditPipeline", INPAINT: "QwenImageEditInpaintPipeline"},
    {INPAINT: "FluxFillPipeline"},
    {TEXT: "LTXPipeline", IMAGE: "LTXImageToVideoPipeline"},
)
_SIBLINGS = {name: family for family in _FAMILIES for name in family.values()}

# Their signature leaves the picture out by default and their call then fails.
_NEED_PICTURE = ("Adapter", "ControlNet", "Depth2Img", "I2V", "ImageToVideo", "Pix2Pix", "Upscale", "VideoToWorld")
_ALTER_MODELS = ("PAG",)  # perturbed attention is put into the denoiser, and its rows see each other
_CARRIED = frozenset({"prompt", "image"})  # what a request can bring of what a call requires

# Frames a second that a model was trained for, by the beginning of its pipeline's name; no configuration says it.
_TRAINED_FPS = {
    "Allegro": 15,
    "AnimateDiff": 8,
    "CogVideoX": 8,
    "HunyuanVideo": 24,
    "Mochi": 30,
    "SkyReels": 24,
    "Wan": 16,
}


@dataclass(frozen=True, slots=True)
class Abilities:
    """What a pipeline draws. `width`, `height` (pixels) and `frames` are its own defaults, 0 where it has none."""

    tasks: tuple[str, ...]
    output: str = STILL
    strength: float = 0.0  # the default one; 0: it takes none
    width: int = 0
    height: int = 0
    frames: int = 0
    fps: int = 0


def sibling(pipeline: str, task: str) -> str:
    """Return the class that draws a task (`text`, `image` or `inpaint`) with the parts of a pipeline.

    That is the pipeline itself where it is the only class of its kind; empty when there is none.
    """
    if pipeline in _SIBLINGS:
        return _SIBLINGS[pipeline].get(task, "")
    return pipeline


def abilities(pipeline: str, parameters: Parameters) -> Abilities:
    """Return what a pipeline whose call has these parameters can draw; raises Unusable when requests cannot feed it."""
    if any(word in pipeline for word in _ALTER_MODELS):
        raise Unusable(f"{pipeline} changes its model while it draws, and others draw with it")
    beyond = sorted(name for name, default in parameters.items() if default is REQUIRED and name not in _CARRIED)
    if beyond:
        raise Unusable(f"{pipeline} needs {', '.join(beyond)}, which requests do not bring")
    tasks = _tasks(pipeline, parameters)
    is_video = "num_frames" in parameters
    return Abilities(
        tasks=tasks,
        output=VIDEO if is_video else STILL,
        strength=_strength(pipeline, tasks, parameters),
        width=_whole(parameters, "width"),
        height=_whole(parameters, "height"),
        frames=(_whole(parameters, "num_frames") or _FRAMES) if is_video else 0,
        fps=_fps(pipeline, parameters) if is_video else 0,
    )


def _tasks(pipeline: str, parameters: Parameters) -> tuple[str, ...]:
    family = _SIBLINGS.get(pipeline)
    if family is not None:
        return tuple(family)
    if "image" not in parameters:
        return (TEXT,)
    needed = parameters["image"] is REQUIRED or any(word in pipeline for word in _NEED_PICTURE)
    return (IMAGE,) if needed or "prompt" not in parameters else (TEXT, IMAGE)


def _strength(pipeline: str, tasks: tuple[str, ...], parameters: Parameters) -> float:
    family = _SIBLINGS.get(pipeline, {})
    if IMAGE not in tasks:
        return _WHOLE if INPAINT in tasks else 0.0
    taken = family[IMAGE].endswith("Img2ImgPipeline") if family else "strength" in parameters
    return _STRENGTH if taken else 0.0


def _fps(pipeline: str, parameters: Parameters) -> int:
    trained = next((fps for name, fps in _TRAINED_FPS.items() if pipeline.startswith(name)), _FPS)
    return _whole(parameters, "fps") or _whole(parameters, "frame_rate") or trained


def _whole(parameters: Parameters, name: str) -> int:
    value = parameters.get(name)
    return int(value) if isinstance(value, int | float) and value > 0 else 0
