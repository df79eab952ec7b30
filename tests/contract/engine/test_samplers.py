"""Every sampler that a model may be asked for draws in plain diffusers and keeps what the model predicts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, DiffusionPipeline, PNDMScheduler

from services.modelserver.engine.arguments import fresh_scheduler
from services.modelserver.engine.quiet import quiet_libraries
from services.modelserver.samplers import SAMPLERS, samplers_of
from tests.contract.engine.families import save_family

_NOISE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "timestep_spacing": "trailing"}
TARGET = 1.7  # beyond ±1, where samplers made for pixels would clip


@pytest.fixture(scope="module")
def pipe(tmp_path_factory):
    quiet_libraries()
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    folder = save_family("sd15", tmp_path_factory.mktemp("families") / "sd15")
    loaded = DiffusionPipeline.from_pretrained(str(folder), local_files_only=True)
    loaded.set_progress_bar_config(disable=True)
    yield loaded
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def drawn(pipe) -> dict[str, np.ndarray]:
    own, pictures = pipe.scheduler, {}
    for sampler in SAMPLERS:
        pipe.scheduler = fresh_scheduler(own, sampler)
        noise = torch.Generator().manual_seed(3)
        pictures[sampler] = pipe(
            "a red circle", num_inference_steps=4, width=32, height=32, generator=noise, output_type="np"
        ).images
    pipe.scheduler = own
    return pictures


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_it_draws_in_four_steps_and_differently_from_every_other(drawn, sampler):
    assert np.isfinite(drawn[sampler]).all()
    assert all(not np.array_equal(drawn[sampler], other) for name, other in drawn.items() if name != sampler)


def _perfect(sample: torch.Tensor, alpha: torch.Tensor, prediction: str) -> torch.Tensor:
    """Return what a denoiser says that knows every picture to be TARGET all over."""
    signal, noise = alpha.sqrt(), (1 - alpha).sqrt()
    epsilon = (sample - signal * TARGET) / noise
    return signal * epsilon - noise * TARGET if prediction == "v_prediction" else epsilon


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize(
    ("own", "more"),
    [(PNDMScheduler, {}), (DDIMScheduler, {"clip_sample": False}), (DDPMScheduler, {"clip_sample": True})],
)
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_perfect_denoiser_leads_it_to_the_picture_whatever_the_model_predicts(sampler, own, more, prediction):
    scheduler = fresh_scheduler(own(**_NOISE, prediction_type=prediction, **more), sampler)
    scheduler.set_timesteps(2)  # so few that each must be right
    noise = torch.Generator().manual_seed(1)
    latents = torch.randn(1, 4, 4, 4, generator=noise) * scheduler.init_noise_sigma
    for t in scheduler.timesteps:
        scaled = scheduler.scale_model_input(latents, t)
        said = _perfect(scaled, scheduler.alphas_cumprod[int(t)], prediction)
        more = {} if sampler in ("dpmpp_2m", "unipc") else {"generator": noise}
        latents = scheduler.step(said, t, latents, **more).prev_sample
    assert (latents - TARGET).abs().max() < 0.15  # some stop a little before the end; a wrong prediction is far off


def test_a_flow_model_keeps_its_own():
    assert samplers_of("FlowMatchEulerDiscreteScheduler") == ("euler",)
    assert samplers_of("LCMScheduler")[0] == "lcm"
    assert samplers_of("UniPCMultistepScheduler", {"use_flow_sigmas": True}) == ("native",)
    assert samplers_of("UniPCMultistepScheduler", {"prediction_type": "flow_prediction"}) == ("native",)
    assert samplers_of("EulerDiscreteScheduler", {"timestep_type": "continuous"}) == ("native",)
    assert samplers_of("UniPCMultistepScheduler", {"prediction_type": "v_prediction"})[0] == "unipc"
