"""Adapters by request: each draws what plain diffusers draws with that adapter alone, and leaves no trace."""

from __future__ import annotations

import errno
import shutil

import pytest
import safetensors.torch
import torch
from diffusers import DiffusionPipeline

from services.modelserver.engine import adapter_side
from services.modelserver.engine.adapters import Adapters
from services.modelserver.engine.loading import load_model
from services.modelserver.engine.protocol import BadInput, OutOfMemory
from services.modelserver.engine.quiet import quiet_libraries
from tests.contract.engine.families import save_family
from tests.contract.engine.harness import scanned
from tests.contract.engine.tiny_lora import save_lora

ENOUGH = 1e-4
FAMILIES = {
    "sd15": ("unet", "text_encoder"),
    "sdxl": ("unet", "text_encoder", "text_encoder_2"),
    "sd3": ("transformer", "text_encoder", "text_encoder_2"),
    "flux": ("transformer", "text_encoder"),
    "qwen": ("transformer",),
}


@pytest.fixture(scope="module", autouse=True)
def _quiet(one_thread):
    quiet_libraries()


def _plain(path) -> DiffusionPipeline:
    pipe = DiffusionPipeline.from_pretrained(str(path), local_files_only=True)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _scanned(path):
    return scanned(path, path.parent / "digests")


@pytest.fixture(scope="module")
def sd15(tmp_path_factory):
    """Return the folder of a model with four adapters."""
    path = save_family("sd15", tmp_path_factory.mktemp("models") / "sd15")
    pipe = _plain(path)
    for seed, name in enumerate(("ink", "sky.v2", "moss")):
        save_lora(pipe, path / "loras" / f"{name}.safetensors", seed)
    save_lora(pipe, path / "loras" / "words.safetensors", 9, ("unet", "text_encoder"))
    return _scanned(path)


@pytest.fixture
def model(sd15):
    return load_model(sd15, torch.float32, lambda _share: None)


def _draw(pipe) -> torch.Tensor:
    noise = torch.Generator().manual_seed(5)
    return pipe("a red circle", num_inference_steps=3, width=32, height=32, generator=noise, output_type="latent")[0]


def _drawn_with(model, adapters: Adapters, wanted) -> torch.Tensor:
    adapters.use_on_text_encoders(wanted)
    adapters.use(wanted)
    return _draw(model.pipe)


def _solo(folder, wanted) -> torch.Tensor:
    pipe = _plain(folder.path)
    for name, _ in wanted:
        key = name.replace(".", "_")  # as diffusers demands it
        pipe.load_lora_weights(str(folder.path / "loras"), weight_name=f"{name}.safetensors", adapter_name=key)
    pipe.set_adapters([name.replace(".", "_") for name, _ in wanted], [weight for _, weight in wanted])
    return _draw(pipe)


def _away(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).abs().max())


SETS = (
    (("ink", 1.0),),
    (("sky.v2", -0.5),),
    (("ink", 0.5), ("moss", 1.5)),
    (("words", 1.0),),
)


def test_four_requests_with_four_sets_draw_as_alone_though_others_have_the_forwards_between(sd15, model):
    adapters = Adapters(model)
    before = _draw(model.pipe)
    for wanted, other in zip(SETS, SETS[1:] + SETS[:1], strict=True):

        def takes_turns(_module, _inputs, wanted=wanted, other=other):
            adapters.use(other)
            adapters.use(wanted)

        hook = model.pipe.unet.register_forward_pre_hook(takes_turns)
        drawn, alone = _drawn_with(model, adapters, wanted), _solo(sd15, wanted)
        hook.remove()
        assert _away(drawn, alone) <= ENOUGH
        assert _away(drawn, before) > 100 * ENOUGH
    assert torch.equal(_drawn_with(model, adapters, ()), before)


@pytest.mark.parametrize("family", [name for name in FAMILIES if name != "sd15"])
def test_every_family_draws_as_plain_diffusers_does(tmp_path, family):
    path = save_family(family, tmp_path / family)
    save_lora(_plain(path), path / "loras" / "ink.safetensors", 3, FAMILIES[family])
    folder = _scanned(path)
    model, wanted = load_model(folder, torch.float32, lambda _share: None), (("ink", 0.7),)
    adapters, before = Adapters(model), _draw(model.pipe)
    drawn = _drawn_with(model, adapters, wanted)
    assert _away(drawn, _solo(folder, wanted)) <= ENOUGH
    assert _away(drawn, before) > 100 * ENOUGH
    assert torch.equal(_drawn_with(model, adapters, ()), before)


@torch.no_grad()
def test_the_words_of_a_request_are_read_with_its_adapters_only(model):
    adapters = Adapters(model)

    def read():
        return model.pipe.encode_prompt("a red circle", torch.device("cpu"), 1, False)[0]

    before = read()
    adapters.use_on_text_encoders((("words", 1.0),))
    assert _away(read(), before) > 100 * ENOUGH
    adapters.use_on_text_encoders((("ink", 1.0),))
    assert torch.equal(read(), before)


def test_the_least_recently_used_adapter_makes_room(model, monkeypatch):
    monkeypatch.setattr(adapter_side, "MOST_LOADED", 2)
    monkeypatch.setattr(adapter_side, "_MOST_SHARE", 100.0)
    adapters = Adapters(model)
    first = _drawn_with(model, adapters, (("ink", 1.0),))
    adapters.use((("moss", 1.0),))
    adapters.use((("ink", 1.0),))
    adapters.use((("sky.v2", 1.0),))
    assert adapters.loaded() == ("ink", "sky.v2")
    adapters.use((("moss", 1.0),))
    assert adapters.loaded() == ("sky.v2", "moss")
    assert not [name for name, _ in model.pipe.unet.named_parameters() if ".ink." in name]
    assert torch.equal(_drawn_with(model, adapters, (("ink", 1.0),)), first)


def test_adapters_take_a_share_of_the_models_bytes_at_most(model, monkeypatch):
    size = next(lora.bytes for lora in model.folder.loras if lora.name == "ink")
    monkeypatch.setattr(adapter_side, "_MOST_SHARE", 2.5 * size / model.weight_bytes)
    adapters = Adapters(model)
    for name in ("ink", "moss", "sky.v2"):
        adapters.use(((name, 1.0),))
    assert adapters.loaded() == ("moss", "sky.v2")
    adapters.use(tuple((name, 1.0) for name in ("ink", "moss", "sky.v2")))  # what a request wants is never too much
    assert len(adapters.loaded()) == 3


@pytest.fixture
def spoilt(sd15, tmp_path):
    """Return a copy of the model folder, to be scanned once something was done to it."""
    return shutil.copytree(sd15.path, tmp_path / "sd15")


def _spoil(path, how: str) -> None:
    tensors = safetensors.torch.load_file(path)
    if how == "shapes":
        tensors = {name: torch.cat([tensor, tensor], -1) for name, tensor in tensors.items()}
    elif how == "names":
        tensors = {name.replace("attn", "elsewhere"): tensor for name, tensor in tensors.items()}
    elif how == "prefix":
        tensors = {name.replace("unet", "prior"): tensor for name, tensor in tensors.items()}
    elif how == "nothing":
        tensors = {}
    elif how == "no lora":
        tensors = {name.replace("lora", "x"): tensor for name, tensor in tensors.items()}
    safetensors.torch.save_file(tensors, path)


# Diffusers tidies up after a file that does not fit, and PEFT tells of each layer where it does.
@pytest.mark.filterwarnings("ignore:Adapter .* was active which is now deleted:UserWarning")
@pytest.mark.parametrize("how", ["shapes", "names", "prefix", "nothing", "no lora"])
def test_a_broken_adapter_fails_its_request_and_leaves_the_model_as_it_was(sd15, spoilt, how):
    _spoil(spoilt / "loras" / "ink.safetensors", how)
    model = load_model(_scanned(spoilt), torch.float32, lambda _share: None)
    adapters, before = Adapters(model), _draw(model.pipe)
    with_moss = _drawn_with(model, adapters, (("moss", 1.0),))
    for _ in range(2):
        with pytest.raises(BadInput, match="adapter 'ink' does not load: "):
            adapters.use((("moss", 1.0), ("ink", 1.0)))
    assert torch.equal(_drawn_with(model, adapters, (("moss", 1.0),)), with_moss)
    assert torch.equal(_drawn_with(model, adapters, ()), before)


@pytest.mark.parametrize(
    ("error", "seen"), [(OSError(errno.EIO, "Input/output error"), OSError), (MemoryError(), OutOfMemory)]
)
def test_a_failing_disk_or_too_little_memory_is_not_the_adapters_fault(model, monkeypatch, error, seen):
    adapters = Adapters(model)

    def load_file(*_args, **_kwargs):
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(safetensors.torch, "load_file", load_file)
        with pytest.raises(seen):
            adapters.use((("ink", 1.0),))
    adapters.use((("ink", 1.0),))
    assert adapters.loaded() == ("ink",)


def test_one_that_is_not_here_is_refused(model):
    adapters = Adapters(model)
    for use in (adapters.use, adapters.use_on_text_encoders):
        with pytest.raises(BadInput, match="no adapter 'nope'"):
            use((("nope", 1.0),))


def test_a_family_without_adapters_says_so(tmp_path, sd15):
    path = save_family("svd", tmp_path / "svd")
    shutil.copytree(sd15.path / "loras", path / "loras")
    adapters = Adapters(load_model(_scanned(path), torch.float32, lambda _share: None))
    adapters.use(())
    with pytest.raises(BadInput, match="takes no adapters"):
        adapters.use((("ink", 1.0),))
