"""A few real steps of every stage: a stopped run goes on as if it had not been, and what comes out is a pipeline."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from services.modelserver.default_model.training.__main__ import main
from services.modelserver.default_model.training.autoencoder import (
    AutoencoderPlan,
    AutoencoderStage,
    build_autoencoder,
    encode_pictures,
)
from services.modelserver.default_model.training.checkpoint import run_stage
from services.modelserver.default_model.training.evaluate import Drawing, draw_and_judge, load_pipeline
from services.modelserver.default_model.training.judge import held_out_prompts
from services.modelserver.default_model.training.pictures import draw_pictures
from services.modelserver.default_model.training.text import build_text_encoder, token_ids, train_tokenizer
from services.modelserver.default_model.training.unet import Denoiser, LatentSet, UnetPlan, UnetStage, build_unet

CPU = torch.device("cpu")
STEPS, STOP_AT = 4, 2
AUTOENCODER = AutoencoderPlan(steps=STEPS, batch=2, warmup_steps=1)
UNET = UnetPlan(steps=STEPS, batch=2, warmup_steps=1)


class Stopped(Exception):
    pass


class StopsAt:
    """A stage that is stopped before step `stop`."""

    def __init__(self, stage, stop):
        self._stage, self._stop = stage, stop

    def __getattr__(self, name):
        return getattr(self._stage, name)

    def advance(self, step):
        if step == self._stop:
            raise Stopped
        return self._stage.advance(step)


@pytest.fixture(scope="module")
def pictures():
    return draw_pictures(1, 8, [], 0.0)


@pytest.fixture(scope="module")
def tokenizer(pictures):
    return train_tokenizer(pictures.captions)


@pytest.fixture
def build(request, pictures, tokenizer):
    """Return what makes a fresh stage of the kind in the parameter."""

    def autoencoder(plan=AUTOENCODER):
        return AutoencoderStage(plan, pictures.pixels, CPU)

    def unet(plan=UNET):
        torch.manual_seed(plan.seed)
        latents = torch.randn(8, 4, 16, 16, generator=torch.Generator().manual_seed(0))
        data = LatentSet(latents, token_ids(tokenizer, pictures.captions), token_ids(tokenizer, [""])[0])
        return UnetStage(plan, Denoiser(build_unet(), build_text_encoder(tokenizer)), data, CPU)

    return {"autoencoder": autoencoder, "unet": unet}[request.param]


def tensors(value):
    """Yield every tensor in a nested state."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from tensors(part)


@pytest.mark.parametrize("build", ["autoencoder", "unet"], indirect=True)
def test_a_resumed_run_ends_where_an_uninterrupted_one_does(build, tmp_path):
    straight, path = build(), tmp_path / "stage.checkpoint"
    untrained = [t.clone() for t in tensors(straight.state())]
    run_stage(straight, tmp_path / "straight.checkpoint", resume=False)
    with pytest.raises(Stopped):
        run_stage(StopsAt(build(), STOP_AT), path, resume=False, save_every=STOP_AT)
    resumed = build()
    run_stage(resumed, path, resume=True)
    ends = [list(tensors(stage.state())) for stage in (straight, resumed)]
    assert all(torch.equal(a, b) for a, b in zip(*ends, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(untrained, ends[0], strict=False))


@pytest.mark.parametrize("build", ["unet"], indirect=True)
def test_a_checkpoint_of_another_plan_is_refused(build, tmp_path):
    path = tmp_path / "stage.checkpoint"
    run_stage(build(UnetPlan(steps=1, batch=2)), path, resume=False)
    with pytest.raises(ValueError, match="another batch, steps"):
        run_stage(build(UnetPlan(steps=2, batch=4)), path, resume=True)


@pytest.mark.parametrize("build", ["unet"], indirect=True)
def test_averaged_weights_are_lent_and_taken_back(build):
    stage = build()
    stage.advance(0)
    latest = [p.detach().clone() for p in stage.denoiser.parameters()]
    with stage.averaged() as lent:
        assert not all(torch.equal(a, b) for a, b in zip(latest, lent.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(latest, stage.denoiser.parameters(), strict=True))


def test_latents_have_an_eighth_of_the_side(pictures):
    assert encode_pictures(build_autoencoder(), pictures.pixels, batch=3).shape == (8, 4, 16, 16)


def test_words_never_seen_keep_their_letters(tokenizer):
    ids = token_ids(tokenizer, ["a zyx qüw", ""])
    assert ids.shape == (2, 32)
    assert tokenizer.decode(ids[0], skip_special_tokens=True).strip() == "a zyx qüw"
    assert (ids[1][1:] == tokenizer.eos_token_id).all()


# diffusers' Euler schedule hands a tensor to numpy in a way that numpy 2 warns of.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_the_program_makes_a_pipeline_and_trains_one_further(tmp_path):
    tiny = ["--pictures", "12", "--processes", "1", "--unet-steps", "1", "--batch", "2", "--autoencoder-steps", "1"]
    for stage in ("autoencoder", "unet"):
        main(["--stage", stage, "--work", str(tmp_path / "new"), *tiny])
    made = tmp_path / "new" / "pipeline"
    main(["--stage", "unet", "--work", str(tmp_path / "further"), "--start-from", str(made), *tiny])
    pipeline = load_pipeline(tmp_path / "further" / "pipeline", CPU)
    judged = list(draw_and_judge(pipeline, held_out_prompts(1, 1, 1), Drawing(steps=2)))
    assert [np.asarray(each.image).shape for each in judged] == [(128, 128, 3)] * 2
    assert pipeline.vae.config.scaling_factor != 1.0
