"""What a worker's pictures depend on besides weights and request, as one digest: results are reused only within it.

Libraries, the options of its models, the adapters beside them; and what it would refuse to draw, so that a prompt which
is not allowed any more gets no picture that lies there from before. Any change of one makes all results from before be
drawn anew: it happens seldom, and a picture that is not what was asked for is worse.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import json
from collections.abc import Iterable

from services.modelserver.models import ModelFolder

ENGINE = 1  # goes up when the engine draws something else for the same request
_LIBRARIES = ("torch", "diffusers", "transformers", "pillow")
_DIGITS = 16


def drawing_build(folders: Iterable[ModelFolder], device: str, policy: str) -> str:
    """Return hex digits that are the same only where the same request is drawn the same way.

    `device` is its kind: a CPU rounds in another way than an accelerator. `policy` is that of the safety check.
    """
    document = {
        "engine": ENGINE,
        "device": "cpu" if device == "cpu" else "accelerator",
        "policy": policy,
        "libraries": {name: importlib.metadata.version(name) for name in _LIBRARIES},
        "models": {
            folder.model.pinned: {
                "options": dataclasses.asdict(folder.options),
                "loras": {lora.name: lora.digest for lora in folder.loras},
            }
            for folder in folders
        },
    }
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()[:_DIGITS]
