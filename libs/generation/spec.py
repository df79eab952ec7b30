"""What a request asks for, checked whole against its model: every invalid field is reported at once."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from libs.errors import InvalidRequest, Violation, listed
from libs.generation import media
from libs.generation.model import TEXT, Model
from libs.generation.webhook import Webhook

MAX_PROMPT = 2000
MAX_LABELS, MAX_LABEL = 16, 63
_MAX_DIGITS = 9
_MAX_ECHO = 40  # characters of a wrong value that are repeated to its sender
SEED_SPACE = 2**32

MAX_LORAS, MAX_LORA_WEIGHT = 4, 2.0
CACHE_USES = ("use", "bypass", "refresh")

N = TypeVar("N", int, float)


@dataclass(frozen=True, slots=True)
class LoraUse:
    """An adapter of the model and how strongly it acts; 1 is as it was trained."""

    name: str
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class SpecRequest:
    """A request as it came. None and "" mean: the model's default. Sizes in pixels."""

    prompt: str = ""
    negative_prompt: str = ""
    model: str = ""
    width: int | None = None
    height: int | None = None
    size: str = ""
    aspect_ratio: str = ""
    images: int | None = None
    steps: int | None = None
    guidance_scale: float | None = None
    seed: int | None = None
    sampler: str = ""
    output_format: str = ""
    output_quality: int | None = None
    preview: bool = False
    priority: int = 0
    deadline_s: int = 0
    labels: Mapping[str, str] = field(default_factory=dict)
    loras: tuple[LoraUse, ...] = ()
    input_image: str = ""
    mask_image: str = ""
    strength: float | None = None
    frames: int | None = None
    fps: int | None = None
    cache: str = ""
    allow_downgrade: bool = False
    webhook: Webhook | None = None


@dataclass(frozen=True, slots=True)
class GenerationSpec:
    """A checked request with every default filled in. Image i uses `image_seed(i)`. Sizes in pixels.

    `input_image` and `mask_image` are ids of uploads. None is what this request does not have (see `media`).
    """

    prompt: str
    negative_prompt: str
    model: str
    width: int
    height: int
    images: int
    steps: int
    guidance_scale: float
    seed: int
    sampler: str
    output_format: str = "png"
    output_quality: int = 90
    preview: bool = False
    priority: int = 0
    deadline_s: int = 0
    labels: Mapping[str, str] = field(default_factory=dict)
    loras: tuple[LoraUse, ...] = ()
    input_image: str = ""
    mask_image: str = ""
    strength: float | None = None
    frames: int | None = None
    fps: int | None = None
    cache: str = CACHE_USES[0]
    allow_downgrade: bool = False
    webhook: Webhook | None = None

    @property
    def guided(self) -> bool:
        """Whether classifier-free guidance doubles the rows."""
        return self.guidance_scale > 1.0

    @property
    def megapixels(self) -> float:
        """Pixels of one picture, in millions."""
        return self.width * self.height / 1e6

    @property
    def drawn_steps(self) -> int:
        """Steps that are computed: over an input picture fewer than `steps`."""
        return media.drawn_steps(self.steps, self.strength)

    def image_seed(self, index: int) -> int:
        """Return the seed of picture `index`."""
        return (self.seed + index) % SEED_SPACE


def resolve(request: SpecRequest, model: Model, fresh_seed: int) -> GenerationSpec:
    """Fill in the model's defaults and check every field.

    `fresh_seed` is used when the request names none. Raises InvalidRequest with all violations.
    """
    width, height, problems = _dimensions(request, model)
    defaults, (frames, fps) = model.defaults, media.clip(request, model)
    spec = GenerationSpec(
        prompt=request.prompt,
        negative_prompt=request.negative_prompt,
        model=model.id,
        width=width,
        height=height,
        images=_given(request.images, 1),
        steps=_given(request.steps, defaults.steps),
        guidance_scale=_given(request.guidance_scale, defaults.guidance_scale),
        seed=_given(request.seed, fresh_seed),
        sampler=request.sampler or defaults.sampler,
        output_format=request.output_format or media.formats(model)[0],
        output_quality=_given(request.output_quality, 90),
        preview=request.preview,
        priority=request.priority,
        deadline_s=request.deadline_s,
        labels=dict(request.labels),
        loras=request.loras,
        input_image=request.input_image,
        mask_image=request.mask_image,
        strength=media.strength(request, model),
        frames=frames,
        fps=fps,
        cache=request.cache or CACHE_USES[0],
        allow_downgrade=request.allow_downgrade,
        webhook=request.webhook and request.webhook.resolved(),
    )
    problems += _problems(spec, model)
    if problems:
        raise invalid(problems)
    return spec


def fits(spec: GenerationSpec, model: Model) -> bool:
    """Return whether another model can draw a checked request as it stands."""
    if model.draws_video != (spec.frames is not None):
        return False
    if spec.input_image and bool(model.defaults.strength) != (spec.strength is not None):
        return False
    return not _problems(spec, model)


def invalid(problems: list[Violation]) -> InvalidRequest:
    """Return the error that names every invalid field."""
    fields = {p.field for p in problems}
    sizes = fields <= {"width", "height", "size", "aspect_ratio"}
    unknown = all(p.description.startswith("is not a field") for p in problems)
    reason = "UNKNOWN_FIELD" if unknown else "INVALID_DIMENSIONS" if sizes else "INVALID_REQUEST"
    return InvalidRequest(
        f"The request was not accepted: {listed(problems)}. Nothing was charged.", reason=reason, violations=problems
    )


def _problems(spec: GenerationSpec, model: Model) -> list[Violation]:
    problems = _text_problems(spec, model) + _number_problems(spec, model) + _choice_problems(spec, model)
    return problems + _lora_problems(spec, model) + media.input_problems(spec, model) + media.clip_problems(spec, model)


def _given(value: N | None, default: N) -> N:
    return default if value is None else value


def _dimensions(request: SpecRequest, model: Model) -> tuple[int, int, list[Violation]]:
    width, height = _given(request.width, model.defaults.width), _given(request.height, model.defaults.height)
    explicit = request.width is not None or request.height is not None
    if request.size:
        left, right = _pair(request.size, "x")
        if left is None or right is None:
            return width, height, [Violation("size", "must be WIDTHxHEIGHT in pixels, like 512x768")]
        if explicit or request.aspect_ratio:
            return width, height, [Violation("size", "cannot be used together with width, height or aspect_ratio")]
        return left, right, []
    if request.aspect_ratio:
        return _from_ratio(request, model)
    return width, height, []


def _from_ratio(request: SpecRequest, model: Model) -> tuple[int, int, list[Violation]]:
    width, height = model.defaults.width, model.defaults.height
    left, right = _pair(request.aspect_ratio, ":")
    if not left or not right:
        return width, height, [Violation("aspect_ratio", "must be two whole numbers, like 16:9")]
    if request.width is not None or request.height is not None:
        return width, height, [Violation("aspect_ratio", "cannot be used together with width and height")]
    ratio, step = math.sqrt(left / right), model.limits.size_step
    side = math.sqrt(width * height)
    return _rounded(side * ratio, step), _rounded(side / ratio, step), []


def _pair(text: str, between: str) -> tuple[int | None, int | None]:
    left, _, right = text.partition(between)
    return _whole(left), _whole(right)


def _whole(text: str) -> int | None:
    """Return a number of plain digits; `isdigit` alone also takes `²`, and `int` refuses thousands of digits."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= _MAX_DIGITS else None


def _rounded(value: float, step: int) -> int:
    return max(step, round(value / step) * step)


def _text_problems(spec: GenerationSpec, model: Model) -> list[Violation]:
    problems = []
    if not spec.prompt.strip() and TEXT in model.tasks:
        problems.append(Violation("prompt", "must not be empty"))
    for name in ("prompt", "negative_prompt"):
        length = len(getattr(spec, name))
        if length > MAX_PROMPT:
            problems.append(Violation(name, f"has {length} characters, at most {MAX_PROMPT} are allowed"))
    if len(spec.labels) > MAX_LABELS:
        problems.append(Violation("labels", f"has {len(spec.labels)} entries, at most {MAX_LABELS} are allowed"))
    if any(not 0 < len(k) <= MAX_LABEL or len(v) > MAX_LABEL for k, v in spec.labels.items()):
        problems.append(Violation("labels", f"keys have 1 to {MAX_LABEL} characters, values at most {MAX_LABEL}"))
    return problems


def _number_problems(spec: GenerationSpec, model: Model) -> list[Violation]:
    limits, problems = model.limits, []
    for name, value in (("width", spec.width), ("height", spec.height)):
        if not limits.min_size <= value <= limits.max_size or value % limits.size_step:
            told = f"must be a multiple of {limits.size_step} from {limits.min_size} to {limits.max_size}, not {value}"
            problems.append(Violation(name, told))
    if spec.width * spec.height > limits.max_pixels:
        told = f"times height is {spec.width * spec.height} pixels, at most {limits.max_pixels} are allowed"
        problems.append(Violation("width", told))
    ranges = (
        ("steps", spec.steps, 1, limits.max_steps),
        ("images", spec.images, 1, limits.max_images),
        ("guidance_scale", spec.guidance_scale, 0, limits.max_guidance_scale),
        ("output_quality", spec.output_quality, 1, 100),
        ("priority", spec.priority, -10, 10),
        ("deadline_s", spec.deadline_s, 0, 7 * 86400),
        ("seed", spec.seed, 0, SEED_SPACE - 1),
    )
    for name, number, low, high in ranges:
        if not low <= number <= high:  # also false for NaN
            problems.append(Violation(name, f"must be from {low} to {high:g}, not {number:g}"))
    return problems


def _choice_problems(spec: GenerationSpec, model: Model) -> list[Violation]:
    choices = (
        ("sampler", spec.sampler, model.limits.samplers),
        ("output_format", spec.output_format, media.formats(model)),
        ("cache", spec.cache, CACHE_USES),
    )
    return [
        Violation(name, f"must be one of {', '.join(allowed)}, not {value[:_MAX_ECHO]!r}")
        for name, value, allowed in choices
        if value not in allowed
    ]


def _lora_problems(spec: GenerationSpec, model: Model) -> list[Violation]:
    names, told = [use.name for use in spec.loras], list[str]()
    if len(names) > MAX_LORAS:
        told.append(f"has {len(names)} entries, at most {MAX_LORAS} are allowed")
    if len(set(names)) < len(names):
        told.append("names an adapter more than once")
    if not all(-MAX_LORA_WEIGHT <= use.weight <= MAX_LORA_WEIGHT for use in spec.loras):  # NaN is refused, too
        told.append(f"has a weight that is not from {-MAX_LORA_WEIGHT:g} to {MAX_LORA_WEIGHT:g}")
    unknown = next((name for name in names if name not in model.loras), None)
    if unknown is not None:
        near = ", ".join(difflib.get_close_matches(unknown[:_MAX_ECHO], model.loras, n=3, cutoff=0.0))
        known = f"near it is {near}" if near else "it has none"
        told.append(f"names {unknown[:_MAX_ECHO]!r}, which is no adapter of the model; {known}")
    return [Violation("loras", one) for one in told]
