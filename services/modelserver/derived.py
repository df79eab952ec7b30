"""What a model's own configuration says about what may be asked of it; `darkroom.toml` has the last word."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from libs.generation.model import INPAINT, VIDEO, ModelDefaults, ModelLimits
from services.modelserver import pipelines
from services.modelserver.pipelines import Abilities, Parameters
from services.modelserver.refusal import read_json
from services.modelserver.samplers import samplers_of

_MIN_SIZE, _FALLBACK_SIZE, _LATENT_FACTOR = 64, 512, 8
_MOST_FRAMES = 2  # times the number that a model draws by default


@dataclass(frozen=True, slots=True)
class Derived:
    """Limits and defaults before `darkroom.toml`, and what the model draws from and what comes out."""

    limits: ModelLimits
    defaults: ModelDefaults
    tasks: tuple[str, ...]
    output: str


def derive(folder: Path, index: dict[str, Any], parameters: Parameters) -> Derived:
    """Read it from a folder whose index was checked and whose pipeline's call has these parameters; raises Unusable."""
    able = pipelines.abilities(str(index["_class_name"]), parameters)
    denoiser = next((name for name in ("unet", "transformer") if isinstance(index.get(name), list)), "")
    drawn, vae = _config(folder, denoiser), _config(folder, "vae" if isinstance(index.get("vae"), list) else "")
    if _takes_mask(drawn, vae):
        able = dataclasses.replace(able, tasks=(INPAINT,), strength=1.0)
    width, height = _size(drawn, able)
    step = _size_step(vae, denoiser)
    scheduler = index.get("scheduler")
    config = _sampling(folder) if isinstance(scheduler, list) else {}
    samplers = samplers_of(scheduler[1] if isinstance(scheduler, list) else "", config)
    limits = ModelLimits(
        min_size=min(_MIN_SIZE, width, height),
        max_size=2 * max(width, height),
        size_step=step,
        max_pixels=2 * width * height,
        samplers=samplers,
    )
    defaults = ModelDefaults(width=width, height=height, sampler=samplers[0], strength=able.strength)
    if able.output == VIDEO:
        limits, defaults = _with_frames(limits, defaults, able, _frame_step(vae), _longest(folder, index))
    return Derived(limits, defaults, able.tasks, able.output)


def _config(folder: Path, name: str) -> dict[str, Any]:
    return read_json(folder / name / "config.json", f"{name}/config.json") if name else {}


def _sampling(folder: Path) -> dict[str, Any]:
    name = "scheduler/scheduler_config.json"
    return read_json(folder / name, name) if (folder / name).is_file() else {}


def _takes_mask(drawn: dict[str, Any], vae: dict[str, Any]) -> bool:
    """Whether the denoiser was made for in-painting alone: beside the latents it takes those of the picture, and a mask."""
    taken, latents = drawn.get("in_channels"), vae.get("latent_channels")
    return isinstance(taken, int) and isinstance(latents, int) and taken == 2 * latents + 1


def _size(drawn: dict[str, Any], able: Abilities) -> tuple[int, int]:
    """Return width and height: of clips the pipeline's own, else the denoiser's sample size, counted in latents."""
    if able.output == VIDEO and able.width and able.height:
        return able.width, able.height
    sample = drawn.get("sample_size")
    size = sample * _LATENT_FACTOR if isinstance(sample, int) and sample > 0 else _FALLBACK_SIZE
    return size, size


def _size_step(vae: dict[str, Any], denoiser: str) -> int:
    factor = _number(vae, "spatial_compression_ratio", "scale_factor_spatial") or _LATENT_FACTOR
    if not _number(vae, "spatial_compression_ratio") and "spatio_temporal_scaling" in vae:
        factor = _halvings(vae, "spatio_temporal_scaling") * (_number(vae, "patch_size") or 1)
    patched = denoiser != "unet" and factor <= 2 * _LATENT_FACTOR  # transformers take latents in patches of 2 × 2
    return factor * (2 if patched else 1)


def _frame_step(vae: dict[str, Any]) -> int:
    """Return how many frames of a clip one frame of latents stands for."""
    told = _number(vae, "scale_factor_temporal", "temporal_compression_ratio")
    if told:
        return told
    for name in ("temperal_downsample", "spatio_temporal_scaling"):  # the first is spelled so
        if name in vae:
            return _halvings(vae, name) * (_number(vae, "patch_size_t") or 1)
    grown = vae.get("temporal_expansions")
    return math.prod(grown) if isinstance(grown, list) and all(isinstance(n, int) for n in grown) else 1


def _longest(folder: Path, index: dict[str, Any]) -> int:
    """Return the most frames that a motion adapter knows positions for; 0 when nothing says so."""
    adapter = _config(folder, "motion_adapter" if isinstance(index.get("motion_adapter"), list) else "")
    return _number(adapter, "motion_max_seq_length")


def _number(config: dict[str, Any], *names: str) -> int:
    """Return the first of these values that is a positive whole number; 0 when none is."""
    values = (config.get(name) for name in names)
    return next((value for value in values if type(value) is int and value > 0), 0)


def _halvings(config: dict[str, Any], name: str) -> int:
    marks = config[name] if isinstance(config[name], list) else []
    return int(2 ** sum(map(bool, marks)))


def _with_frames(
    limits: ModelLimits, defaults: ModelDefaults, able: Abilities, step: int, longest: int
) -> tuple[ModelLimits, ModelDefaults]:
    frames = _aligned(min(able.frames, longest or able.frames), step)
    most = _aligned(min(_MOST_FRAMES * able.frames, longest or _MOST_FRAMES * able.frames), step)
    return (
        dataclasses.replace(limits, max_frames=most, frame_step=step, max_images=1),
        dataclasses.replace(defaults, frames=frames, fps=able.fps),
    )


def _aligned(frames: int, step: int) -> int:
    """Return the largest 1 + k · step that is not above `frames`."""
    return max(0, frames - 1) // step * step + 1
