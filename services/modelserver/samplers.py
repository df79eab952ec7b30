"""Sampler ids and the diffusers classes behind them; no import of diffusers."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

SAMPLERS: Mapping[str, str] = {
    "euler": "EulerDiscreteScheduler",
    "euler_a": "EulerAncestralDiscreteScheduler",
    "ddim": "DDIMScheduler",
    "dpmpp_2m": "DPMSolverMultistepScheduler",
    "unipc": "UniPCMultistepScheduler",
    "lcm": "LCMScheduler",  # few steps; for models, or adapters, that were distilled for it
}

# Schedulers whose configuration describes the same noise as those above, so that one can stand in for the other.
_EXCHANGEABLE = frozenset(SAMPLERS.values()) | {
    "DDPMScheduler",
    "DPMSolverSinglestepScheduler",
    "HeunDiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "LMSDiscreteScheduler",
    "PNDMScheduler",
}
_FLOW_MATCHING = frozenset({"FlowMatchEulerDiscreteScheduler"})
OWN = "native"  # the scheduler that the model came with


def samplers_of(scheduler_class: str, config: Mapping[str, object] = MappingProxyType({})) -> tuple[str, ...]:
    """Return the sampler ids of a model, its own one first. `config` is its scheduler's own.

    Models that learned a flow, or noise on a continuous scale, draw with the scheduler they came with only.
    """
    if scheduler_class in _FLOW_MATCHING:
        return ("euler",)
    flow = config.get("use_flow_sigmas") is True or config.get("prediction_type") == "flow_prediction"
    if scheduler_class not in _EXCHANGEABLE or flow or config.get("timestep_type") == "continuous":
        return (OWN,)
    own = next((name for name, kind in SAMPLERS.items() if kind == scheduler_class), "euler")
    return (own, *(name for name in SAMPLERS if name != own))
