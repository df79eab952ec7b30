"""All that is needed to go on with a drawing elsewhere: in memory, and as bytes that another worker can read.

    MAGIC · SHA-256 of what follows · a safetensors file, with everything that is no tensor as JSON in its metadata

Nothing is pickled and nothing in the bytes is run. Whoever reads them believes nothing: what is cut short, altered,
oversized, of another format or of an unknown type is BadCheckpoint. That they belong to a drawing is another
question; `fingerprint` answers it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

import diffusers
import safetensors.torch
import torch
import transformers
from safetensors import SafetensorError

from libs.generation.spec import GenerationSpec
from services.modelserver.checkpoints import MOST_BYTES
from services.modelserver.engine.held_values import Held, NotPlain, from_json, give_back, hold, to_json
from services.modelserver.engine.protocol import Mask, Pixels
from services.modelserver.models import ModelFolder

FORMAT = 1
_MAGIC = b"DRKCKPT\x01"
_PREFIX = len(_MAGIC) + hashlib.sha256().digest_size
_MOST_HEADER_BYTES = 2**20
_MOST_STEPS = 100_000
_MOST_GENERATORS, _MOST_GENERATOR_BYTES = 1024, 2**14
_MOST_TIMES_LATENTS = 16  # a denoiser answers with some rows and channels more than the latents have, not with any
_MOST_DIMENSIONS, _MOST_SIDE = 8, 2**31
_KEY = "checkpoint"
_FINGERPRINT = re.compile(r"[0-9a-f]{64}")
_CONFIG = "_internal_dict"  # where diffusers keeps the configuration of a scheduler
_CODE = (FunctionType, MethodType, BuiltinFunctionType, type)
# How a picture is written to a file and who waits for it; ids of uploads, whose pixels count instead.
_NOT_DRAWN = frozenset(
    {"output_format", "output_quality", "preview", "priority", "deadline_s", "labels", "input_image", "mask_image"}
)
_WRONG = (
    *(SafetensorError, NotPlain, ValueError, KeyError, TypeError, AttributeError, IndexError),
    *(OverflowError, RuntimeError, AssertionError),
)


class BadCheckpoint(Exception):
    """Bytes that are no checkpoint, or a state that does not fit where it should go."""


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """A drawing after `step` of `total`. `latents` are those at the end of the step, on the CPU.

    `sampler` is what `sampler_state` gave and `noise` the generators' states. `shapes` are those of the denoiser's
    outputs, for the answers while the steps that are done are gone through again.
    """

    fingerprint: str
    step: int
    total: int
    latents: torch.Tensor
    sampler: dict[str, Any]
    noise: tuple[torch.Tensor, ...]
    shapes: tuple[tuple[int, ...], ...]

    def to_bytes(self) -> bytes:
        """Return it for another process. Raises NotPlain when the sampler's state is not one of `sampler_state`."""
        tensors: dict[str, torch.Tensor] = {}
        document = {
            "format": FORMAT,
            "fingerprint": self.fingerprint,
            "step": self.step,
            "total": self.total,
            "latents": to_json(hold(self.latents), tensors),
            "sampler": {name: to_json(value, tensors) for name, value in self.sampler.items()},
            "noise": [to_json(hold(state), tensors) for state in self.noise],
            "shapes": self.shapes,
        }
        body: bytes = safetensors.torch.save(tensors, {_KEY: json.dumps(document)})
        return _MAGIC + hashlib.sha256(body).digest() + body

    @classmethod
    def from_bytes(cls, data: bytes) -> Checkpoint:
        """Return what `to_bytes` wrote; raises BadCheckpoint for everything else."""
        if len(data) > MOST_BYTES or data[: len(_MAGIC)] != _MAGIC:
            raise BadCheckpoint("it is not a checkpoint of this format")
        body = data[_PREFIX:]
        if hashlib.sha256(body).digest() != data[len(_MAGIC) : _PREFIX]:
            raise BadCheckpoint("it is cut short or was altered")
        try:
            document, tensors = _document(body), safetensors.torch.load(body)
            read = _read(document, tensors)
        except _WRONG as error:
            raise BadCheckpoint(f"it cannot be read: {type(error).__name__}") from error
        if tensors:
            raise BadCheckpoint("it holds tensors that nothing names")
        return _checked(read)


def sampler_state(scheduler: Any) -> dict[str, Any]:
    """Return a copy of everything a scheduler has beside its configuration, off the device.

    Raises NotPlain when it has something that cannot be kept: then its drawings have no checkpoints.
    """
    return {name: hold(value) for name, value in vars(scheduler).items() if _is_state(name, value)}


def restore_sampler(scheduler: Any, state: dict[str, Any], device: torch.device | str | None = None) -> None:
    """Put a scheduler of the same class and configuration where the other one was.

    What belongs on the device goes to `device`; without one, to where the scheduler has its own tensors. Raises
    BadCheckpoint for names that are no state of it. The state can be used again.
    """
    wrong = [name for name in state if not name.isidentifier() or hasattr(type(scheduler), name) or name == _CONFIG]
    if wrong:
        raise BadCheckpoint("it holds something that is no state of this sampler")
    own = vars(scheduler)
    target = _device_of(own) if device is None else torch.device(device)
    try:
        given = {name: give_back(value, target) for name, value in state.items()}
    except NotPlain as error:
        raise BadCheckpoint(f"it is no state of a sampler: {error}") from error
    kept = {name: value for name, value in own.items() if not _is_state(name, value)}
    own.clear()
    own.update(kept | given)


def noise_states(generators: Sequence[torch.Generator]) -> tuple[torch.Tensor, ...]:
    """Return where each source of noise is."""
    return tuple(generator.get_state() for generator in generators)


def restore_noise(generators: Sequence[torch.Generator], states: Sequence[torch.Tensor]) -> None:
    """Put each source of noise where it was; raises BadCheckpoint when the states are not theirs."""
    if len(generators) != len(states):
        raise BadCheckpoint("it has another number of sources of noise")
    try:
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state)
    except (RuntimeError, TypeError) as error:
        raise BadCheckpoint("a source of noise does not take its state") from error


def fingerprint(folder: ModelFolder, spec: GenerationSpec, image: Pixels | None, mask: Mask | None) -> str:
    """Return 64 hex digits that are the same only where the same picture is drawn the same way.

    Every field of the spec counts unless it is known not to, so that a new one never goes unnoticed.
    """
    fields, used = dataclasses.asdict(spec), {use.name for use in spec.loras}
    document = {
        "format": FORMAT,
        "torch": torch.__version__,
        "diffusers": diffusers.__version__,
        "transformers": transformers.__version__,
        "model": folder.model.pinned,
        "options": dataclasses.asdict(folder.options),
        "loras": {lora.name: lora.digest for lora in folder.loras if lora.name in used},
        "spec": {name: fields[name] for name in sorted(fields) if name not in _NOT_DRAWN},
        "image": _digest(image),
        "mask": _digest(mask),
    }
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def _digest(pixels: Pixels | None) -> str:
    if pixels is None:
        return ""
    told = f"{pixels.dtype.str}{pixels.shape}".encode()
    return hashlib.sha256(told + pixels.tobytes()).hexdigest()


def _is_state(name: str, value: Any) -> bool:
    return name != _CONFIG and not isinstance(value, _CODE)


def _device_of(own: dict[str, Any]) -> torch.device:
    tensors = (value for value in own.values() if isinstance(value, torch.Tensor))
    return next((tensor.device for tensor in tensors if tensor.device.type != "cpu"), torch.device("cpu"))


def _document(body: bytes) -> dict[str, Any]:
    """Return the JSON in the metadata; safetensors gives it out for files only, not for bytes."""
    length = int.from_bytes(body[:8], "little")
    if length > min(_MOST_HEADER_BYTES, len(body) - 8):
        raise BadCheckpoint("its header is too long")
    header = json.loads(body[8 : 8 + length])
    document: dict[str, Any] = json.loads(header["__metadata__"][_KEY])
    if document["format"] != FORMAT:
        raise BadCheckpoint("it is of another format")
    return document


def _read(document: dict[str, Any], tensors: dict[str, torch.Tensor]) -> Checkpoint:
    return Checkpoint(
        fingerprint=document["fingerprint"],
        step=document["step"],
        total=document["total"],
        latents=_tensor(document["latents"], tensors),
        sampler={name: from_json(node, tensors) for name, node in document["sampler"].items()},
        noise=tuple(_tensor(node, tensors) for node in document["noise"]),
        shapes=tuple(tuple(shape) for shape in document["shapes"]),
    )


def _tensor(node: Any, tensors: dict[str, torch.Tensor]) -> torch.Tensor:
    held = from_json(node, tensors)
    if not isinstance(held, Held):
        raise BadCheckpoint("there is no tensor where one must be")
    return held.tensor


def _checked(read: Checkpoint) -> Checkpoint:
    latents, most = read.latents, _MOST_TIMES_LATENTS * read.latents.numel()
    sound = {
        "fingerprint": isinstance(read.fingerprint, str) and bool(_FINGERPRINT.fullmatch(read.fingerprint)),
        "steps": _whole(read.step) and _whole(read.total) and 0 < read.step <= read.total <= _MOST_STEPS,
        "latents": latents.is_floating_point() and latents.numel() > 0 and bool(torch.isfinite(latents).all()),
        "noise": len(read.noise) <= _MOST_GENERATORS and all(_is_noise(state) for state in read.noise),
        "shapes": all(_is_shape(shape) and math.prod(shape) <= most for shape in read.shapes),
    }
    for part, fine in sound.items():
        if not fine:
            raise BadCheckpoint(f"its {part} cannot be right")
    return read


def _whole(number: object) -> bool:
    return isinstance(number, int) and not isinstance(number, bool)


def _is_shape(shape: tuple[int, ...]) -> bool:
    return len(shape) <= _MOST_DIMENSIONS and all(_whole(side) and 0 < side <= _MOST_SIDE for side in shape)


def _is_noise(state: torch.Tensor) -> bool:
    return state.dtype is torch.uint8 and state.dim() == 1 and 0 < state.numel() <= _MOST_GENERATOR_BYTES
