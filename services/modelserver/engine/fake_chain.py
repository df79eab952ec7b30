"""What the fake engine draws: one flat colour, the end of a chain of digests with one link a step.

So a step too many, too few or of another request gives another colour.
"""

from __future__ import annotations

import hashlib
import json

import numpy as np

from libs.generation.spec import GenerationSpec
from services.modelserver.engine.protocol import Pixels, Request


def first(request: Request) -> str:
    """Return where the chain begins: with everything but the seed that changes pixels."""
    spec = request.spec
    digest = hashlib.sha256(repr((_name(request), spec.width, spec.height, spec.loras, spec.strength)).encode())
    for pixels in (request.image, request.mask):
        digest.update(b"|" if pixels is None else pixels.tobytes())
    return digest.hexdigest()


def after(state: str, step: int) -> str:
    """Return the next link."""
    return hashlib.sha256(f"{state}|{step}".encode()).hexdigest()


def picture(state: str, spec: GenerationSpec, index: int) -> Pixels:
    """Return picture `index`, of which the seed decides too."""
    colour = hashlib.sha256(f"{state}|{spec.image_seed(index)}".encode()).digest()[:3]
    return np.broadcast_to(np.frombuffer(colour, dtype=np.uint8), (spec.height, spec.width, 3)).copy()


def checkpoint(request: Request, step: int, state: str) -> bytes:
    """Return everything needed to go on after `step`."""
    return json.dumps({"of": _fingerprint(request), "step": step, "state": state}).encode()


def resumed(request: Request) -> tuple[int, str]:
    """Return step and link to go on from; without a checkpoint, or with one of another request, the beginning."""
    try:
        document = json.loads(request.checkpoint or b"{}")
        step, state, origin = int(document["step"]), str(document["state"]), str(document["of"])
    except (ValueError, KeyError, TypeError):
        return 0, first(request)
    fits = origin == _fingerprint(request) and 0 < step < request.spec.drawn_steps
    return (step, state) if fits else (0, first(request))


def _name(request: Request) -> tuple[object, ...]:
    spec = request.spec
    drawn_from = (spec.prompt, spec.negative_prompt, spec.steps, spec.guidance_scale, spec.sampler)
    return request.folder.model.pinned, *drawn_from


def _fingerprint(request: Request) -> str:
    return hashlib.sha256(f"{first(request)}|{request.spec.seed}|{request.spec.images}".encode()).hexdigest()
