"""Rows of several calls in one forward: what is joined, cut and kept apart; and what a failed forward leaves behind."""

from __future__ import annotations

import weakref
from typing import Any

import pytest
import torch

from services.modelserver.engine import packing
from services.modelserver.engine.calls import Call, Kind, vae_standin
from services.modelserver.engine.faults import as_failure
from services.modelserver.engine.packing import Topologies
from services.modelserver.engine.protocol import OutOfMemory
from services.modelserver.pipelines import abilities
from services.modelserver.refusal import Unusable


class UNet2DConditionModel:
    """Adds up what it is given, row by row: every argument that goes astray shows."""

    def forward(
        self, sample, timestep, encoder_hidden_states=None, down_block_additional_residuals=None, return_dict=True
    ):
        assert len(sample) == len(timestep) == len(encoder_hidden_states)
        total = sample + timestep.reshape(-1, 1) + encoder_hidden_states
        for block in down_block_additional_residuals or ():
            assert len(block) == len(sample)
            total = total + block
        return (total,)

    __call__ = forward


def _call(value: float, rows: int, **more: Any) -> Call:
    at = torch.full((rows, 2), value)
    kwargs = {"encoder_hidden_states": 10 * at, "return_dict": False, **more}
    return Call(Kind.FORWARD, lambda: None, UNet2DConditionModel(), (at, torch.tensor(100.0 * value)), kwargs)


def _packed(call: Call) -> packing.Packet:
    packed = packing.packet(call, call.module, "m@1", (), Topologies())
    assert packed is not None
    return packed


def _alone(call: Call) -> torch.Tensor:
    (out,) = packing.forward(call.module, [_packed(call)])
    return out[0]


@pytest.mark.parametrize("pad_to", [0, 8])
@pytest.mark.parametrize("kind", [list, tuple])
def test_residuals_of_a_control_net_stay_with_their_rows(kind, pad_to):
    def blocks(value, rows):
        return kind([torch.full((rows, 2), 1000 * value), torch.full((rows, 2), 10_000 * value)])

    calls = [_call(v, n, down_block_additional_residuals=blocks(v, n)) for v, n in ((1.0, 2), (2.0, 1), (3.0, 2))]
    packets = [_packed(call) for call in calls]
    assert len({packed.key for packed in packets}) == 1
    for call, (out,) in zip(calls, packing.forward(calls[0].module, packets, pad_to=pad_to), strict=True):
        value = call.args[0][0, 0]
        assert torch.equal(out, torch.full_like(call.args[0], float(value) * 11_111))


def test_halves_are_the_whole():
    call = _call(2.0, 3, down_block_additional_residuals=[torch.arange(6.0).reshape(3, 2)])
    both = packing.halves(_packed(call))
    assert both is not None
    outputs = [packing.forward(call.module, [part])[0] for part in both]
    assert torch.equal(packing.joined(outputs)[0], _alone(call))


def test_rows_with_other_conditions_are_kept_apart():
    with_residuals = _call(1.0, 1, down_block_additional_residuals=[torch.ones(1, 2)])
    assert _packed(with_residuals).key != _packed(_call(1.0, 1)).key


def test_an_argument_that_nothing_is_known_of_is_run_alone():
    call = _call(1.0, 1, unheard_of=object())
    assert packing.packet(call, call.module, "m@1", ()) is None


def test_numbers_that_ran_away_are_found_in_their_row():
    fine, bad = torch.ones(1, 2), torch.tensor([[1.0, float("nan")]])
    assert packing.finite([(fine,), (bad,), ([fine, -bad / 0],)]) == [True, False, False]


def test_what_a_failed_forward_held_is_given_back():
    class Activations:
        pass

    kept: list[weakref.ref[Activations]] = []

    def forward():
        held = Activations()
        kept.append(weakref.ref(held))
        raise torch.OutOfMemoryError("CUDA out of memory")

    try:
        forward()
    except torch.OutOfMemoryError as error:
        failure = as_failure(error)
        assert kept[0]() is None  # inside the handler, where the batch is tried again in halves
    assert isinstance(failure, OutOfMemory)


def test_a_vae_is_given_all_that_its_pipeline_gives():
    class Vae:
        dtype = torch.float32

        def decode(self, latents, timestep, return_dict=True):
            return latents.dtype, timestep, return_dict

    standin = vae_standin(Vae(), lambda call: call.run())
    assert standin.decode(torch.ones(1, dtype=torch.float64), None, return_dict=False) == (torch.float32, None, False)
    assert standin.to("cuda") is standin


def test_a_pipeline_that_changes_the_model_of_all_is_refused():
    with pytest.raises(Unusable, match="changes its model"):
        abilities("StableDiffusionPAGPipeline", {"prompt": None})
