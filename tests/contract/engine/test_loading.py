"""A model in memory is what plain diffusers loads, or there is a reason for it not to be."""

from __future__ import annotations

import errno
import logging
import shutil

import diffusers
import pytest
import safetensors.torch
import torch

from services.modelserver.digests import FileDigests
from services.modelserver.engine.classes import LibraryClasses
from services.modelserver.engine.loading import load_model, weight_bytes
from services.modelserver.engine.protocol import ModelBroken, OutOfMemory
from services.modelserver.models import scan
from tests.contract.engine.families import save_family

FILE = "diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    place, made = tmp_path_factory.mktemp("families"), {}

    def folder(name):
        if name not in made:
            path = save_family(name, place / name)
            (made[name],) = scan([path], FileDigests(place / "digests"), LibraryClasses())
            assert made[name].model.usable, made[name].model.unusable_reason
        return made[name]

    return folder


@pytest.fixture
def spoilt(saved, tmp_path):
    """Return a folder that was fine when it was found, and its path to spoil."""
    shutil.copytree(saved("sd15").path, tmp_path / "sd15")
    (folder,) = scan([tmp_path / "sd15"], FileDigests(tmp_path / "digests"), LibraryClasses())
    return folder


def _told(_share: float) -> None:
    return None


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        *((name, torch.float32) for name in ("sd15", "sdxl", "flux", "qwen", "animatediff")),
        *((name, torch.bfloat16) for name in ("sd3", "wan")),  # Wan keeps some of its weights in float32
    ],
)
def test_it_has_the_weights_types_and_sampler_that_plain_diffusers_loads(saved, name, dtype):
    folder = saved(name)
    loaded = load_model(folder, dtype, _told)
    plain = diffusers.DiffusionPipeline.from_pretrained(str(folder.path), local_files_only=True, dtype=dtype)
    assert type(loaded.pipe) is type(plain)
    assert loaded.pipe.components.keys() == plain.components.keys()
    for part, expected in plain.components.items():
        found = loaded.pipe.components[part]
        assert type(found) is type(expected)
        if isinstance(expected, torch.nn.Module):
            wanted = expected.state_dict()
            assert all(torch.equal(value, wanted[key]) for key, value in found.state_dict().items())
            assert {key: value.dtype for key, value in found.state_dict().items()} == {
                key: value.dtype for key, value in wanted.items()
            }
            assert not found.training
    assert dict(loaded.pipe.scheduler.config) == dict(plain.scheduler.config)
    assert loaded.denoiser == ("unet" if hasattr(plain, "unet") else "transformer")
    assert loaded.weight_bytes == weight_bytes(plain) > 1000


def test_progress_ascends_to_the_whole(saved):
    shares: list[float] = []
    load_model(saved("flux"), torch.float32, shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert len(set(shares)) > 20


def test_who_does_not_want_it_any_more_ends_the_load(saved):
    def tell(_share):
        raise KeyError("not wanted")  # also one of the errors that files raise

    with pytest.raises(KeyError, match="not wanted"):
        load_model(saved("sd15"), torch.float32, tell)


def test_a_weight_that_is_missing_is_not_made_up(spoilt):
    file = spoilt.path / "unet" / FILE
    weights = safetensors.torch.load_file(file)
    del weights["conv_in.weight"]
    safetensors.torch.save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(ModelBroken, match=r"unet lacks the weights conv_in\.weight"):
        load_model(spoilt, torch.float32, _told)


@pytest.mark.parametrize("component", ["unet", "text_encoder"])
def test_weights_that_do_not_fit_their_config_break_the_model(spoilt, component):
    config = spoilt.path / component / "config.json"
    name = "cross_attention_dim" if component == "unet" else "hidden_size"
    config.write_text(config.read_text().replace(f'"{name}": 16', f'"{name}": 32'))
    with pytest.raises(ModelBroken, match="it does not load: "):
        load_model(spoilt, torch.float32, _told)


def test_a_file_that_went_away_breaks_the_model(spoilt):
    (spoilt.path / "vae" / FILE).unlink()
    with pytest.raises(ModelBroken, match="it does not load: "):
        load_model(spoilt, torch.float32, _told)


def _raising(monkeypatch, error: BaseException) -> None:
    def load_file(*_args, **_kwargs):
        raise error

    monkeypatch.setattr(safetensors.torch, "load_file", load_file)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError()])
def test_too_little_memory_is_not_the_models_fault(saved, monkeypatch, error):
    _raising(monkeypatch, error)
    with pytest.raises(OutOfMemory):
        load_model(saved("sd15"), torch.float32, _told)


def test_a_disk_that_fails_just_now_is_not_the_models_fault(saved, monkeypatch):
    _raising(monkeypatch, OSError(errno.EIO, "Input/output error"))  # which diffusers wraps in errors of its own
    with pytest.raises(OSError, match="Input/output") as raised:
        load_model(saved("sd15"), torch.float32, _told)
    assert raised.value.errno == errno.EIO


def test_nothing_is_quoted_at_length(saved, monkeypatch, caplog):
    _raising(monkeypatch, ValueError("x" * 5000))
    with caplog.at_level(logging.ERROR), pytest.raises(ModelBroken) as raised:
        load_model(saved("sd15"), torch.float32, _told)
    assert len(str(raised.value)) < 300
