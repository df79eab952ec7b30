"""Adapters of random weights for a pipeline, in the format that diffusers saves, big enough to show in the picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

_RANK = 2
_CHANGED = ("to_q", "to_v", "to_out.0", "q_proj", "v_proj")


def save_lora(pipe: Any, path: Path, seed: int, components: Sequence[str] = ("unet",)) -> Path:
    """Write an adapter of the attention layers of these components."""
    noise = torch.Generator().manual_seed(seed)
    tensors = {}
    for component in components:
        for name, layer in getattr(pipe, component).named_modules():
            if isinstance(layer, torch.nn.Linear) and name.endswith(_CHANGED):
                down = torch.randn(_RANK, layer.in_features, generator=noise) / layer.in_features**0.5
                up = torch.randn(layer.out_features, _RANK, generator=noise)
                tensors[f"{component}.{name}.lora_A.weight"] = down
                tensors[f"{component}.{name}.lora_B.weight"] = up
    assert tensors
    path.parent.mkdir(exist_ok=True)
    save_file(tensors, path, metadata={"format": "pt"})
    return path
