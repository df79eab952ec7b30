from __future__ import annotations

import json
import struct
from dataclasses import replace

import pytest

from libs.generation.model import Model
from services.modelserver.engine.weight_estimate import estimated_bytes
from services.modelserver.models import ModelFolder
from services.modelserver.options import ModelOptions
from tests.unit.services.modelserver.model_folders import INDEX, write_model


def weights(**tensors: tuple[str, int]) -> bytes:
    header: dict[str, dict[str, object]] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, (dtype, size) in tensors.items():
        header[name] = {"dtype": dtype, "shape": [], "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text


@pytest.fixture
def folder(tmp_path):
    model = write_model(tmp_path / "model")  # three components of 16 bytes of floats each
    (model / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(
        weights(a=("F32", 400), b=("F16", 20), c=("I64", 80))
    )
    return ModelFolder(model, Model(id="model", version="1", pipeline=""))


def test_floats_count_as_they_will_be_loaded_and_the_rest_as_it_is(folder):
    assert estimated_bytes(folder, 4) == 400 + 40 + 80 + 32
    assert estimated_bytes(folder, 2) == 200 + 20 + 80 + 16


def test_options_count_too(folder):
    kept_small = replace(folder, options=ModelOptions(weights="float8"))
    assert estimated_bytes(kept_small, 2) == 100 + 10 + 80 + 16
    index = {**INDEX, "safety_checker": ["transformers", "X"]}
    (folder.path / "model_index.json").write_text(json.dumps(index))
    (folder.path / "safety_checker").mkdir()
    (folder.path / "safety_checker" / "model.safetensors").write_bytes(weights(a=("F32", 100)))
    assert (
        estimated_bytes(folder, 4) - estimated_bytes(replace(folder, options=ModelOptions(safety_checker=False)), 4)
        == 100
    )


def test_shards_count_once_and_what_is_not_loaded_does_not(folder):
    unet = folder.path / "unet"
    (unet / "one.safetensors").write_bytes(weights(a=("F32", 100)))
    (unet / "two.safetensors").write_bytes(weights(a=("F32", 200)))
    (unet / "three.safetensors").write_bytes(weights(a=("F32", 4000)))
    index = {"weight_map": {"x": "one.safetensors", "y": "two.safetensors", "z": "one.safetensors"}}
    (unet / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))
    (folder.path / "lora").mkdir()
    (folder.path / "lora" / "model.safetensors").write_bytes(weights(a=("F32", 4000)))
    assert estimated_bytes(folder, 4) == 300 + 32


@pytest.mark.parametrize(
    "content", [b"", b"12345678", struct.pack("<Q", 2) + b"[]", struct.pack("<Q", 9) + b'{"a": {}}']
)
def test_broken_files_count_nothing(folder, content):
    (folder.path / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(content)
    assert estimated_bytes(folder, 4) == 32
    (folder.path / "model_index.json").write_text("{")
    assert estimated_bytes(folder, 4) == 0
