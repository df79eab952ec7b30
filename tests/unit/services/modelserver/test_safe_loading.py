"""Every reason for which a model folder is listed and not served, by its words; and that the others serve."""

from __future__ import annotations

import json
import struct

import pytest

from services.modelserver.digests import FileDigests
from services.modelserver.models import scan
from tests.unit.services.modelserver.model_folders import INDEX, SomeClasses, safetensors, write_model

WEIGHTS = "unet/diffusion_pytorch_model.safetensors"
HUGE_HEADER = struct.pack("<Q", 2**62) + b"{}"


def _reason(tmp_path) -> str:
    (found,) = scan([tmp_path / "m"], FileDigests(tmp_path / "digests"), SomeClasses())
    assert found.model.id == "m"
    return found.model.unusable_reason


def _index(**changes) -> str:
    return json.dumps({**INDEX, **changes})


def _header(document: object, data: bytes = b"") -> bytes:
    header = json.dumps(document).encode()
    return struct.pack("<Q", len(header)) + header + data


def test_a_folder_with_nothing_wrong_is_usable(tmp_path):
    write_model(tmp_path / "m")
    assert _reason(tmp_path) == ""


@pytest.mark.parametrize(
    "name", ["unet/diffusion_pytorch_model.bin", "optimizer.pt", "a/b/c.PKL", "model.ckpt", "x.pth"]
)
def test_pickled_weights_are_refused_by_name(tmp_path, name):
    file = write_model(tmp_path / "m") / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"\x80\x04.")
    assert _reason(tmp_path).startswith("pickled weights are not loaded")
    assert name in _reason(tmp_path)


@pytest.mark.parametrize("name", ["pipeline.py", "unet/modeling.py", "unet/fast.so"])
def test_code_is_refused_by_name(tmp_path, name):
    (write_model(tmp_path / "m") / name).write_text("print()")
    assert _reason(tmp_path) == f"code in a model folder is not run: {name}"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"_class_name": ["my_pipeline", "MyPipeline"]}, "a custom pipeline is not run"),
        ({"_class_name": None}, "a custom pipeline is not run"),
        ({"_class_name": "MyPipeline"}, "MyPipeline is not a pipeline of diffusers"),
        ({"custom_pipeline": "somebody/theirs"}, "a custom pipeline is not run"),
        ({"unet": ["my_module", "MyUNet"]}, "unet is my_module.MyUNet, which is not a class of diffusers"),
        ({"unet": ["os", "system"]}, "unet is os.system"),
        ({"unet": ["diffusers"]}, "unet must be a library and a class"),
        ({"unet": ["..", "x"]}, "unet must be a library and a class"),
        ({"../unet": ["diffusers", "UNet2DConditionModel"]}, "not the name of a component"),
        ({"extra": ["diffusers", "AutoencoderKL"]}, "a file is missing: the folder extra"),
    ],
)
def test_an_index_that_names_what_is_not_the_libraries_own_is_refused(tmp_path, changes, words):
    (write_model(tmp_path / "m") / "model_index.json").write_text(_index(**changes))
    assert words in _reason(tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        WEIGHTS,
        "text_encoder/model.safetensors",
        "vae/config.json",
        "scheduler/scheduler_config.json",
        "tokenizer/tokenizer_config.json",
    ],
)
def test_a_missing_file_is_named(tmp_path, name):
    (write_model(tmp_path / "m") / name).unlink()
    assert _reason(tmp_path) == f"a file is missing: {name}"


def test_a_missing_shard_is_named(tmp_path):
    unet = write_model(tmp_path / "m") / "unet"
    index = {"weight_map": {"a": "part-1.safetensors", "b": "part-2.safetensors"}}
    (unet / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))
    (unet / "part-1.safetensors").write_bytes(safetensors())
    assert _reason(tmp_path) == "a file is missing: unet/part-2.safetensors"
    (unet / "part-2.safetensors").write_bytes(safetensors())
    assert _reason(tmp_path) == ""
    index["weight_map"]["b"] = "../vae/diffusion_pytorch_model.safetensors"
    (unet / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))
    assert "a file of another folder" in _reason(tmp_path)


@pytest.mark.parametrize(
    "name", ["unet/config.json", "tokenizer/tokenizer_config.json", "scheduler/scheduler_config.json"]
)
def test_remote_code_is_refused(tmp_path, name):
    (write_model(tmp_path / "m") / name).write_text('{"auto_map": {"AutoModel": "theirs--modeling.Model"}}')
    assert _reason(tmp_path) == f"remote code is not run: {name} has an auto_map"


@pytest.mark.parametrize("name", ["model_index.json", "unet/config.json"])
@pytest.mark.parametrize(
    ("text", "words"),
    [("{", "is not valid JSON"), ("[]", "is not a JSON object"), ("[" * 100_000, "is not valid JSON")],
)
def test_broken_json_is_named(tmp_path, name, text, words):
    (write_model(tmp_path / "m") / name).write_text(text)
    assert _reason(tmp_path).startswith(f"{name} {words}")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is not a whole safetensors file"),
        (b"\x80\x04K\x01.", "is not a whole safetensors file"),
        (HUGE_HEADER, "is not a whole safetensors file"),
        (_header("text"), "has a broken safetensors header"),
        (struct.pack("<Q", 4) + b"{..}", "has a broken safetensors header"),
        (_header({"w": {"data_offsets": ["a", "b"]}}), "cut short"),
        (_header({"w": {"dtype": "F32"}}), "has a broken safetensors header"),
        (safetensors()[:-1], "is cut short"),
        (safetensors() + b"\0", "has bytes too many"),
    ],
)
def test_a_corrupt_safetensors_file_is_named(tmp_path, data, words):
    (write_model(tmp_path / "m") / WEIGHTS).write_bytes(data)
    assert _reason(tmp_path).startswith(WEIGHTS)
    assert words in _reason(tmp_path)


def test_one_bad_folder_does_not_keep_the_others_from_serving(tmp_path):
    for name in ("good", "pickled", "short"):
        write_model(tmp_path / "models" / name)
    (tmp_path / "models" / "pickled" / "x.bin").write_bytes(b"")
    (tmp_path / "models" / "short" / WEIGHTS).write_bytes(b"")
    found = scan([tmp_path / "models"], FileDigests(tmp_path / "digests"), SomeClasses())
    assert {folder.model.id: folder.model.usable for folder in found} == {
        "good": True,
        "pickled": False,
        "short": False,
    }
    assert found[0].model.id == "good"
