"""Options of a model, and weights that came quantised."""

from __future__ import annotations

import json

import pytest

from services.modelserver import quantised
from services.modelserver.digests import FileDigests
from services.modelserver.models import scan
from services.modelserver.options import ModelOptions
from tests.unit.services.modelserver.model_folders import SomeClasses, write_model


def _scanned(tmp_path):
    (folder,) = scan([tmp_path / "models"], FileDigests(tmp_path / "digests"), SomeClasses())
    return folder


def _described(tmp_path, options: str):
    (write_model(tmp_path / "models" / "m") / "darkroom.toml").write_text(f"[options]\n{options}")
    return _scanned(tmp_path)


def test_what_is_not_said_is_left_to_the_worker(tmp_path):
    assert _described(tmp_path, "").options == ModelOptions()


def test_every_option_is_carried(tmp_path):
    folder = _described(
        tmp_path,
        """
        dtype = "bfloat16"
        weights = "float8"
        attention_slicing = true
        vae_slicing = true
        vae_tiling = true
        strict = true
        idle_s = 600
        most_rows = 8
        fallback = "small.v1"
        safety_checker = false
        """,
    )
    assert folder.model.usable, folder.model.unusable_reason
    assert folder.options == ModelOptions(
        "bfloat16", "float8", True, True, True, False, True, 600.0, 8, "small.v1", False
    )
    assert _described(tmp_path / "other", "compile = true").options.compile


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("weights = 'int4'", "options.weights does not fit"),
        ("weights = 'float8'\ncompile = true", "options.compile does not fit"),
        ("fallback = 'Not A Name'", "options.fallback does not fit"),
        ("compile = 1", "options.compile must be true or false"),
        ("vae_tiling = 'yes'", "options.vae_tiling must be true or false"),
        ("idle_s = -1", "options.idle_s must be a number from 0"),
        ("most_rows = true", "options.most_rows must be a whole number"),
    ],
)
def test_a_wrong_option_is_named(tmp_path, text, words):
    assert words in _described(tmp_path, text).model.unusable_reason


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"quant_method": "bitsandbytes"}, "unet is quantised by bitsandbytes, which needs the library bitsandbytes"),
        ({"quant_method": "magic"}, "unet is quantised by magic"),
        ("4bit", "unet is quantised by no method"),
    ],
)
def test_quantised_files_are_refused_without_their_library(tmp_path, monkeypatch, config, words):
    folder = write_model(tmp_path / "models" / "m")
    (folder / "unet" / "config.json").write_text(json.dumps({"quantization_config": config}))
    monkeypatch.setattr(quantised.importlib.util, "find_spec", lambda _name: None)
    assert words in _scanned(tmp_path).model.unusable_reason


def test_quantised_files_are_taken_with_their_library(tmp_path, monkeypatch):
    folder = write_model(tmp_path / "models" / "m")
    (folder / "unet" / "config.json").write_text(json.dumps({"quantization_config": {"quant_method": "torchao"}}))
    monkeypatch.setattr(quantised.importlib.util, "find_spec", lambda name: name)
    assert _scanned(tmp_path).model.usable
