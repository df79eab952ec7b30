"""Compiled denoisers: the blocks that a model repeats where it says which they are, else the whole of it.

Compiling takes up to minutes and happens at the first forward of a shape, so it is done before a model takes requests:
`warm_compiled` runs every shape once. A forward then has one of few numbers of rows, to which it is padded.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import torch

from services.modelserver.engine import packing
from services.modelserver.engine.calls import first_call
from services.modelserver.engine.layouts import LAYOUTS
from services.modelserver.engine.loading import LoadedModel

logger = logging.getLogger(__name__)

_STEPS = 2  # some samplers leave out a step when there is but one


def warm_compiled(model: LoadedModel, buckets: Sequence[tuple[int, int, int]]) -> None:
    """Run a forward of each (rows, width, height), sizes in pixels, so that none is compiled while requests wait.

    On the device thread, while the model draws nothing. Does nothing for a model that is not compiled, or whose rows
    are not packed: its shapes cannot be told beforehand.
    """
    module = getattr(model.pipe, model.denoiser, None)
    if type(module).__name__ not in LAYOUTS or not compiled_parts(module):
        return
    for rows, width, height in buckets:
        logger.info(
            "model warmed", extra={"model": model.folder.model.pinned, "rows": rows, "size": f"{width}x{height}"}
        )
        _warm(model, rows, width, height)


def compiled_parts(module: Any) -> list[Any]:
    """Return the modules within that are compiled."""
    return [part for part in module.modules() if part._compiled_call_impl is not None]


def _warm(model: LoadedModel, rows: int, width: int, height: int) -> None:
    size = {"width": width, "height": height, "num_inference_steps": _STEPS, "guidance_scale": 1.0}
    noise = torch.Generator("cpu").manual_seed(0)
    call = first_call(model.pipe, model.denoiser, lambda pipe: pipe("", generator=noise, **size))
    packed = packing.packet(call, call.module, "", ())
    with torch.no_grad():  # as in a pipeline's call: with gradients it would be compiled apart
        if packed is None:
            call.run()
        else:
            packing.forward(call.module, [packed], pad_to=rows)
