"""Weights that are kept in one byte each and computed with in the model's own type.

Diffusers' layerwise casting chooses the layers and marks them. Only the way of a forward is another: diffusers casts
a layer's weights back after it, into new memory; here the tensors that were stored are put back. So what is kept
stays where it is, in the buffer that brought it to the device, and is never rounded twice.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any

import torch

_HOOK = "layerwise_casting"  # diffusers' name; the type of a model is told by it


def store_in_float8(denoiser: Any, compute: torch.dtype) -> None:
    """Keep a denoiser's weights in float8, but those of layers that need more (norms, embeddings of positions)."""
    denoiser.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=compute)
    for layer, hook in _marked(denoiser):
        hook.fn_ref.pre_forward = _as_they_are
        hook.fn_ref.forward = _computed(layer, compute, hook.fn_ref.forward)
        hook.fn_ref.post_forward = _unchanged


@contextmanager
def shown_as_computed(module: Any) -> Generator[None]:
    """Show the layers with the type that they compute in and no contents, to who only looks at types and shapes."""
    stored = []
    for layer, hook in _marked(module):
        for tensor in _floats(layer):
            stored.append((tensor, tensor.data))
            tensor.data = torch.empty((), dtype=hook.compute_dtype, device=tensor.device).expand(tensor.shape)
    try:
        yield
    finally:
        for tensor, data in stored:
            tensor.data = data


def _computed(layer: Any, compute: torch.dtype, forward: Callable[..., Any]) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Any:
        stored = [(tensor, tensor.data) for tensor in _floats(layer)]
        try:
            for tensor, data in stored:
                tensor.data = data.to(compute)
            return forward(*args, **kwargs)
        finally:
            for tensor, data in stored:
                tensor.data = data

    return run


def _marked(module: Any) -> Iterator[tuple[Any, Any]]:
    for layer in module.modules():
        registry = getattr(layer, "_diffusers_hook", None)
        hook = None if registry is None else registry.get_hook(_HOOK)
        if hook is not None:
            yield layer, hook


def _floats(layer: Any) -> Iterator[torch.Tensor]:
    own = itertools.chain(layer.parameters(recurse=False), layer.buffers(recurse=False))
    return (tensor for tensor in own if tensor.is_floating_point())


def _as_they_are(_module: Any, *args: Any, **kwargs: Any) -> Any:
    return args, kwargs


def _unchanged(_module: Any, output: Any) -> Any:
    return output
