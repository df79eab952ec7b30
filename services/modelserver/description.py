"""What a request to a model may ask for: `darkroom.toml` where there is one, the model's own sizes where not."""

from __future__ import annotations

import dataclasses
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from libs.generation.media import MAX_FPS
from libs.generation.model import STILL, TEXT, VIDEO, ModelDefaults, ModelLimits
from services.modelserver.derived import derive
from services.modelserver.options import NAME, ModelOptions, wrong_options
from services.modelserver.pipelines import Parameters
from services.modelserver.refusal import Unusable

DESCRIPTION = "darkroom.toml"
_SECTIONS = ("aliases", "defaults", "limits", "options")

D = TypeVar("D", ModelDefaults, ModelLimits, ModelOptions)


@dataclass(frozen=True, slots=True)
class Description:
    """What `darkroom.toml` and the model's configuration say together."""

    aliases: tuple[str, ...] = ()
    limits: ModelLimits = field(default_factory=ModelLimits)
    defaults: ModelDefaults = field(default_factory=ModelDefaults)
    options: ModelOptions = field(default_factory=ModelOptions)
    tasks: tuple[str, ...] = (TEXT,)
    output: str = STILL


def is_model_name(name: str) -> bool:
    """Return whether this may be a model's id or alias."""
    return NAME.fullmatch(name) is not None


def describe(folder: Path, index: dict[str, Any], parameters: Parameters) -> Description:
    """Read the description of a model folder whose index was checked; raises Unusable.

    `parameters` are those of the call of its pipeline.
    """
    document = _document(folder / DESCRIPTION)
    derived = derive(folder, index, parameters)
    description = Description(
        aliases=_aliases(document.get("aliases", [])),
        limits=_filled(derived.limits, document, "limits"),
        defaults=_filled(derived.defaults, document, "defaults"),
        options=_filled(ModelOptions(), document, "options"),
        tasks=derived.tasks,
        output=derived.output,
    )
    _check(description, derived.limits.samplers)
    return description


def _document(file: Path) -> dict[str, Any]:
    try:
        document = tomllib.loads(file.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise Unusable(f"{DESCRIPTION} is broken: {error}") from error
    _refuse_unknown(document, _SECTIONS, "")
    return document


def _aliases(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(name, str) and is_model_name(name) for name in value):
        raise Unusable(f"{DESCRIPTION}: aliases must be a list of names in lower case")
    return tuple(value)


def _filled(base: D, document: dict[str, Any], section: str) -> D:
    """Return `base` with the values of a section, each of the type that the field has."""
    given = document.get(section, {})
    if not isinstance(given, dict):
        raise Unusable(f"{DESCRIPTION}: {section} must be a table")
    _refuse_unknown(given, [field.name for field in dataclasses.fields(base)], f"{section}.")
    values = {name: _typed(value, getattr(base, name), f"{section}.{name}") for name, value in given.items()}
    return dataclasses.replace(base, **values)


def _typed(value: Any, like: object, shown: str) -> Any:
    """Return a value of a TOML file when it is of the type of `like`."""
    if isinstance(like, tuple):
        fine = isinstance(value, list) and value and all(isinstance(part, str) for part in value)
        wanted = "a list of names"
    elif isinstance(like, bool):
        fine, wanted = isinstance(value, bool), "true or false"
    elif isinstance(like, str):
        fine, wanted = isinstance(value, str), "a text"
    else:
        kinds = (int, float) if isinstance(like, float) else (int,)
        fine = isinstance(value, kinds) and not isinstance(value, bool) and value >= 0
        wanted = "a number from 0" if isinstance(like, float) else "a whole number from 0"
    if not fine:
        raise Unusable(f"{DESCRIPTION}: {shown} must be {wanted}")
    return type(like)(value)  # type: ignore[call-arg]


def _refuse_unknown(given: dict[str, Any], allowed: list[str] | tuple[str, ...], section: str) -> None:
    for name in given:
        if name not in allowed:
            raise Unusable(f"{DESCRIPTION}: {section}{name} is unknown; known are {', '.join(allowed)}")


def _check(described: Description, samplers: tuple[str, ...]) -> None:
    limits, defaults = described.limits, described.defaults
    wrong = {
        "limits.size_step": limits.size_step < 1,
        "limits.samplers": not set(limits.samplers) <= set(samplers),
        "defaults.width": not _fits(defaults.width, limits),
        "defaults.height": not _fits(defaults.height, limits),
        "limits.max_pixels": defaults.width * defaults.height > limits.max_pixels,
        "limits.max_images": limits.max_images < 1,
        "defaults.steps": not 1 <= defaults.steps <= limits.max_steps,
        "defaults.guidance_scale": defaults.guidance_scale > limits.max_guidance_scale,
        "defaults.sampler": defaults.sampler not in limits.samplers,
        **_wrong_frames(described),
        "defaults.strength": defaults.strength > 1,
        **wrong_options(described.options),
    }
    for name, is_wrong in wrong.items():
        if is_wrong:
            raise Unusable(f"{DESCRIPTION}: {name} does not fit the other limits or the model")


def _wrong_frames(described: Description) -> dict[str, bool]:
    limits, defaults, video = described.limits, described.defaults, described.output == VIDEO
    fits = 1 <= defaults.frames <= limits.max_frames and (defaults.frames - 1) % max(1, limits.frame_step) == 0
    return {
        "limits.max_frames": not video and limits.max_frames > 0,
        "limits.frame_step": (limits.frame_step > 0) != video,
        "defaults.frames": not fits if video else defaults.frames > 0,
        "defaults.fps": not 1 <= defaults.fps <= MAX_FPS if video else defaults.fps > 0,
    }


def _fits(size: int, limits: ModelLimits) -> bool:
    return limits.min_size <= size <= limits.max_size and size % max(1, limits.size_step) == 0
