"""A model as the platform describes it: what a request may ask for and what it gets by default."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

from libs.errors import NotFound, PreconditionFailed

_MOST_NAMED = 5

# What a model draws from: the prompt alone; an input picture, with the prompt where the model takes one; a picture
# and a mask. And what comes out.
TEXT, IMAGE, INPAINT = "text", "image", "inpaint"
STILL, VIDEO = "image", "video"


@dataclass(frozen=True, slots=True)
class ModelLimits:
    """What a request may ask for. Sizes in pixels. A clip has 1 + k · `frame_step` frames; both are 0 for pictures."""

    min_size: int = 64
    max_size: int = 1024
    size_step: int = 8
    max_pixels: int = 1024 * 1024
    max_steps: int = 100
    max_images: int = 4
    max_guidance_scale: float = 20.0
    samplers: tuple[str, ...] = ("euler",)
    max_frames: int = 0
    frame_step: int = 0


@dataclass(frozen=True, slots=True)
class ModelDefaults:
    """What a request gets where it leaves a field out. Sizes in pixels.

    `strength` is 0 where the model takes none; `frames` and `fps` (frames a second) are 0 for pictures.
    """

    width: int = 512
    height: int = 512
    steps: int = 20
    guidance_scale: float = 5.0
    sampler: str = "euler"
    strength: float = 0.0
    frames: int = 0
    fps: int = 0


@dataclass(frozen=True, slots=True)
class Model:
    """One model folder. `version` is a digest of its files; `unusable_reason` is empty when it serves.

    `loras` are names of adapters beside it; they may come and go without a new version.
    `fallback` is the id of the model that may draw what this one cannot, for requests that allow it.
    """

    id: str
    version: str
    pipeline: str
    aliases: tuple[str, ...] = ()
    limits: ModelLimits = ModelLimits()
    defaults: ModelDefaults = ModelDefaults()
    unusable_reason: str = ""
    residency: str = "disk"
    workers: int = 0
    loras: tuple[str, ...] = ()
    tasks: tuple[str, ...] = (TEXT,)
    output: str = STILL
    fallback: str = ""

    @property
    def pinned(self) -> str:
        """The name that never moves, `id@version`."""
        return f"{self.id}@{self.version}"

    @property
    def draws_video(self) -> bool:
        """Whether clips come out."""
        return self.output == VIDEO

    @property
    def usable(self) -> bool:
        """Whether requests are taken for it."""
        return not self.unusable_reason


def id_of(pinned: str) -> str:
    """Return the model id of a pinned version, `id@version`."""
    return pinned.partition("@")[0]


def means(name: str, pinned: str) -> bool:
    """Whether a name stands for a pinned version: the version itself, or the id for each of its versions."""
    return name in (pinned, id_of(pinned))


def find_model(name: str, models: Sequence[Model], default: str) -> Model:
    """Return the model that `name` leads to: an id, an alias, `id@version`, or the default when empty.

    Raises NotFound with the nearest known names, PreconditionFailed for a version that is gone or a model
    that cannot be used.
    """
    wanted = name or default
    base, _, version = wanted.partition("@")
    found = next((m for m in models if base == m.id), None) or next((m for m in models if base in m.aliases), None)
    if found is None:
        raise _unknown(wanted, [m.id for m in models if m.usable])
    if version and version != found.version:
        raise PreconditionFailed(
            f"Version {version!r} of {found.id!r} is no longer here; {found.pinned!r} is. Nothing was charged.",
            reason="VERSION_RETIRED",
            metadata={"model": wanted, "successor": found.pinned},
        )
    if not found.usable:
        raise PreconditionFailed(
            f"Model {found.id!r} cannot be used: {found.unusable_reason}. Nothing was charged.",
            reason="MODEL_UNUSABLE",
            metadata={"model": found.id, "cause": found.unusable_reason},
        )
    return found


def _unknown(wanted: str, usable: Sequence[str]) -> NotFound:
    # A few of the nearest: the list of a large fleet would not fit into the headers that carry an error.
    near = ", ".join(difflib.get_close_matches(wanted, usable, n=_MOST_NAMED, cutoff=0.0)) or "none yet"
    return NotFound(
        f"There is no model {wanted!r}. Known models: {near}. GET /v1/models lists them all. Nothing was charged.",
        reason="MODEL_NOT_FOUND",
        metadata={"model": wanted, "did_you_mean": near},
    )
