"""Model folders for tests, without torch: JSON files and safetensors files of one small tensor."""

from __future__ import annotations

import json
import struct
from pathlib import Path

INDEX = {
    "_class_name": "StableDiffusionPipeline",
    "_diffusers_version": "0.42.1",
    "requires_safety_checker": False,
    "safety_checker": [None, None],
    "scheduler": ["diffusers", "EulerDiscreteScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}


class SomeClasses:
    """Knows the classes of `INDEX`, as the installed libraries would."""

    def pipeline(self, name: str) -> bool:
        return name == "StableDiffusionPipeline"

    def parameters(self, pipeline: str) -> dict[str, object]:
        return {"prompt": None, "height": None, "width": None}

    def component(self, library: str, name: str) -> bool:
        return [library, name] in INDEX.values()


def safetensors(data: bytes = bytes(16)) -> bytes:
    header = json.dumps({"w": {"dtype": "F32", "shape": [len(data) // 4], "data_offsets": [0, len(data)]}}).encode()
    return struct.pack("<Q", len(header)) + header + data


def write_model(folder: Path) -> Path:
    """Write a folder in which nothing is wrong."""
    for name in ("scheduler", "text_encoder", "tokenizer", "unet", "vae"):
        (folder / name).mkdir(parents=True)
    (folder / "model_index.json").write_text(json.dumps(INDEX))
    (folder / "scheduler" / "scheduler_config.json").write_text("{}")
    (folder / "tokenizer" / "tokenizer_config.json").write_text("{}")
    (folder / "text_encoder" / "config.json").write_text("{}")
    (folder / "text_encoder" / "model.safetensors").write_bytes(safetensors())
    for name in ("unet", "vae"):
        (folder / name / "config.json").write_text('{"sample_size": 64}')
        (folder / name / "diffusion_pytorch_model.safetensors").write_bytes(safetensors())
    return folder
