"""Adapters beside a model: found, checked, named, and no part of the model's version."""

from __future__ import annotations

import pytest

from services.modelserver.digests import FileDigests
from services.modelserver.models import scan
from tests.unit.services.modelserver.model_folders import SomeClasses, safetensors, write_model


@pytest.fixture
def model(tmp_path):
    folder = write_model(tmp_path / "models" / "m")
    (folder / "loras").mkdir()
    return folder


def _scan(tmp_path):
    (found,) = scan([tmp_path / "models"], FileDigests(tmp_path / "digests"), SomeClasses())
    return found


def test_every_safetensors_file_in_loras_is_an_adapter_by_name(tmp_path, model):
    for name in ("sky.v2.safetensors", "ink.safetensors", "README.md"):
        (model / "loras" / name).write_bytes(safetensors())
    found = _scan(tmp_path)
    assert found.model.usable
    assert found.model.loras == ("ink", "sky.v2")
    assert [lora.path.name for lora in found.loras] == ["ink.safetensors", "sky.v2.safetensors"]


def test_an_adapter_that_comes_or_changes_keeps_the_version_and_has_a_digest_of_its_own(tmp_path, model):
    bare = _scan(tmp_path)
    ink = model / "loras" / "ink.safetensors"
    ink.write_bytes(safetensors())
    first = _scan(tmp_path)
    ink.write_bytes(safetensors(bytes(32)))
    second = _scan(tmp_path)
    assert bare.model.version == first.model.version == second.model.version
    assert first.loras[0].digest != second.loras[0].digest


@pytest.mark.parametrize(
    ("name", "data"), [("Big Name", safetensors()), ("cut", safetensors()[:-1]), ("empty", b""), ("-x", safetensors())]
)
def test_one_that_is_broken_is_left_out_and_the_model_serves(tmp_path, model, caplog, name, data):
    (model / "loras" / f"{name}.safetensors").write_bytes(data)
    (model / "loras" / "ink.safetensors").write_bytes(safetensors())
    found = _scan(tmp_path)
    assert found.model.usable
    assert found.model.loras == ("ink",)
    assert [record.adapter for record in caplog.records] == [f"{name}.safetensors"]


def test_a_pickled_adapter_refuses_the_folder_as_any_pickle_does(tmp_path, model):
    (model / "loras" / "ink.pt").write_bytes(b"x")
    assert "loras/ink.pt" in _scan(tmp_path).model.unusable_reason
