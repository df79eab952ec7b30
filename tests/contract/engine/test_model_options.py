"""Options of darkroom.toml do what they say to a loaded model."""

from __future__ import annotations

import copy
from dataclasses import replace

import diffusers
import pytest
import torch
from diffusers.models.attention_processor import SlicedAttnProcessor
from diffusers.models.autoencoders.vae import AutoencoderMixin
from diffusers.pipelines.stable_diffusion import StableDiffusionSafetyChecker
from transformers import CLIPConfig, CLIPImageProcessor

from services.modelserver.engine.adapters import Adapters
from services.modelserver.engine.calls import denoiser_standin
from services.modelserver.engine.compiling import compiled_parts, warm_compiled
from services.modelserver.engine.float8 import store_in_float8
from services.modelserver.engine.loading import load_model, weight_bytes
from services.modelserver.engine.packing import forward, packet
from services.modelserver.engine.quiet import quiet_libraries
from services.modelserver.options import ModelOptions
from tests.contract.engine.families import save_family
from tests.contract.engine.harness import scanned
from tests.contract.engine.tiny_lora import save_lora


@pytest.fixture(scope="module", autouse=True)
def _quiet(one_thread):
    quiet_libraries()


def _scanned(path):
    return scanned(path, path.parent / "digests")


def _add_safety_checker(path) -> None:
    vision = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1,
              "image_size": 32, "patch_size": 16}  # fmt: skip
    pipe = diffusers.DiffusionPipeline.from_pretrained(str(path), local_files_only=True)
    pipe.register_modules(
        safety_checker=StableDiffusionSafetyChecker(CLIPConfig(vision_config=vision, projection_dim=8)),
        feature_extractor=CLIPImageProcessor(size=32, crop_size=32),
    )
    pipe.save_pretrained(path)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Return a UNet with a safety checker and an adapter, and a transformer whose blocks repeat."""
    place = tmp_path_factory.mktemp("models")
    unet = save_family("sd15", place / "sd15")
    _add_safety_checker(unet)
    pipe = diffusers.DiffusionPipeline.from_pretrained(str(unet), local_files_only=True)
    save_lora(pipe, unet / "loras" / "ink.safetensors", 1)
    return {"sd15": _scanned(unet), "flux": _scanned(save_family("flux", place / "flux"))}


def _loaded(folders, name="sd15", backend="eager", dtype=torch.float32, **options):
    folder = replace(folders[name], options=ModelOptions(**options))
    return load_model(folder, dtype, lambda _share: None, backend=backend)


def _draw(pipe, **more) -> torch.Tensor:
    arguments = {"num_inference_steps": 2, "width": 32, "height": 32, "output_type": "latent", **more}
    return pipe("a red circle", generator=torch.Generator().manual_seed(5), **arguments)[0]


@pytest.fixture(scope="module")
def plain(folders):
    return _loaded(folders)


def test_without_options_nothing_is_changed(plain):
    vae = plain.pipe.vae
    assert (vae.use_slicing, vae.use_tiling, compiled_parts(plain.pipe.unet)) == (False, False, [])
    assert plain.pipe.safety_checker is not None
    assert not any(isinstance(each, SlicedAttnProcessor) for each in plain.pipe.unet.attn_processors.values())


def test_vae_slicing_and_tiling_are_switched_on(folders):
    vae = _loaded(folders, vae_slicing=True, vae_tiling=True).pipe.vae
    assert (vae.use_slicing, vae.use_tiling) == (True, True)


def test_attention_slicing_takes_the_place_of_every_attention_and_draws_the_same(folders, plain):
    pipe = _loaded(folders, attention_slicing=True).pipe
    assert all(isinstance(each, SlicedAttnProcessor) for each in pipe.unet.attn_processors.values())
    assert torch.allclose(_draw(pipe), _draw(plain.pipe), atol=1e-4)


def test_an_option_that_a_model_does_not_have_is_told_and_ignored(folders, caplog, monkeypatch):
    monkeypatch.delattr(AutoencoderMixin, "enable_tiling")
    assert not getattr(_loaded(folders, vae_tiling=True).pipe.vae, "use_tiling", False)
    assert [record.option for record in caplog.records] == ["vae_tiling"]


def test_a_safety_checker_is_left_out_when_it_is_not_wanted(folders, plain):
    without = _loaded(folders, safety_checker=False)
    assert without.pipe.safety_checker is None
    assert without.weight_bytes == plain.weight_bytes - weight_bytes_of(plain.pipe.safety_checker)
    assert torch.equal(_draw(without.pipe), _draw(plain.pipe))


def weight_bytes_of(module) -> int:
    return sum(tensor.nbytes for tensor in [*module.parameters(), *module.buffers()])


@pytest.mark.parametrize("name", ["sd15", "flux"])
def test_float8_stores_a_byte_a_weight_and_draws_what_layerwise_casting_draws(folders, name):
    loaded = _loaded(folders, name, weights="float8")
    denoiser = getattr(loaded.pipe, loaded.denoiser)
    stored = {key: tensor for key, tensor in denoiser.named_parameters() if tensor.dtype is torch.float8_e4m3fn}
    assert sum(tensor.numel() for tensor in stored.values()) > 0.7 * sum(p.numel() for p in denoiser.parameters())
    assert not [key for key in stored if "norm" in key]
    assert denoiser.dtype is torch.float32  # what it computes in
    places = {key: tensor.data_ptr() for key, tensor in stored.items()}
    reference = _loaded(folders, name)
    assert loaded.weight_bytes < reference.weight_bytes
    getattr(reference.pipe, loaded.denoiser).enable_layerwise_casting(torch.float8_e4m3fn, torch.float32)
    assert torch.equal(_draw(loaded.pipe), _draw(reference.pipe))
    assert {key: tensor.data_ptr() for key, tensor in stored.items()} == places  # put back, not made anew


def test_float8_weights_are_put_back_when_a_forward_fails():
    class Broken(torch.nn.Linear):
        def forward(self, _input):
            assert self.weight.dtype is torch.float32
            raise MemoryError

    class Denoiser(diffusers.ModelMixin):
        def __init__(self):
            super().__init__()
            self.layer = Broken(4, 4)

    denoiser = Denoiser()
    store_in_float8(denoiser, torch.float32)
    with pytest.raises(MemoryError):
        denoiser.layer(torch.zeros(1, 4))
    assert denoiser.layer.weight.dtype is torch.float8_e4m3fn


def test_adapters_beside_float8_weights_are_not_rounded(folders):
    loaded, reference = _loaded(folders, weights="float8"), _loaded(folders)
    rounded = reference.pipe.unet
    rounded.enable_layerwise_casting(torch.float8_e4m3fn, torch.float32)
    for key, tensor in rounded.named_parameters():  # the same weights, rounded once and then kept in float32
        if tensor.dtype is torch.float8_e4m3fn:
            assert torch.equal(loaded.pipe.unet.get_parameter(key).float(), tensor.float())
    plain = _loaded(folders)
    plain.pipe.unet.load_state_dict({key: tensor.float() for key, tensor in rounded.state_dict().items()})
    for each in (loaded, plain):
        Adapters(each).use((("ink", 1.0),))
    assert torch.allclose(_draw(loaded.pipe), _draw(plain.pipe), atol=1e-5)


class Compiler:
    """A backend of torch.compile that counts what it is given and runs it as it is."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, graph, _inputs):
        self.count += 1
        return graph.forward


@pytest.fixture
def compiler():
    torch._dynamo.reset()
    yield Compiler()
    torch._dynamo.reset()


def test_the_blocks_that_repeat_are_compiled_and_draw_the_same(folders, plain, compiler):
    compiled = _loaded(folders, backend=compiler, compile=True)
    parts = compiled_parts(compiled.pipe.unet)
    assert {type(part).__name__ for part in parts} == {"BasicTransformerBlock"}
    assert torch.allclose(_draw(compiled.pipe), _draw(plain.pipe), atol=1e-4)
    assert compiler.count > 0


def test_a_denoiser_without_such_blocks_is_compiled_whole(folders, compiler, monkeypatch):
    monkeypatch.setattr(diffusers.UNet2DConditionModel, "_repeated_blocks", None)
    unet = _loaded(folders, backend=compiler, compile=True).pipe.unet
    assert compiled_parts(unet) == [unet]


def test_after_warming_no_forward_of_those_shapes_is_compiled(folders, plain, compiler):
    loaded = _loaded(folders, backend=compiler, compile=True)
    warm_compiled(loaded, [(2, 32, 32), (4, 32, 32)])
    warmed = compiler.count
    assert warmed > 0
    for guidance, pad_to in ((1.0, 2), (4.0, 4)):
        expected = _draw(plain.pipe, guidance_scale=guidance)
        assert torch.allclose(_draw(_padding(loaded, pad_to), guidance_scale=guidance), expected, atol=1e-4)
    assert compiler.count == warmed


def _padding(loaded, pad_to: int):
    """Return the pipeline with forwards as the engine runs them: packed, padded to so many rows."""

    def ask(call):
        packed = packet(call, call.module, "", ())
        assert packed is not None
        return forward(call.module, [packed], pad_to=pad_to)[0]

    clone = copy.copy(loaded.pipe)
    clone.__dict__["unet"] = denoiser_standin(loaded.pipe.unet, ask)
    return clone


def test_requests_with_adapters_run_beside_what_was_compiled_and_nothing_is_compiled_anew(folders, plain, compiler):
    loaded = _loaded(folders, backend=compiler, compile=True)
    before = _draw(loaded.pipe)
    compiled, adapters, others = compiler.count, Adapters(loaded), Adapters(plain)
    for wanted in ((("ink", 1.0),), (("ink", 0.5),), ()):
        adapters.use(wanted)
        others.use(wanted)
        assert torch.allclose(_draw(loaded.pipe), _draw(plain.pipe), atol=1e-4)
    assert torch.equal(_draw(loaded.pipe), before)
    assert compiler.count == compiled


def test_what_is_not_compiled_needs_no_warming(plain):
    bytes_before = weight_bytes(plain.pipe)
    warm_compiled(plain, [(1, 7, 7)])  # a size that no forward would take
    assert weight_bytes(plain.pipe) == bytes_before
