"""Which arguments of a denoiser have one entry a row, by class, for denoisers whose rows do not see each other."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Layout:
    """Names of a denoiser's arguments. `sample` is the noisy latents, `time` the timestep, one number a row."""

    sample: str
    time: str
    rows: frozenset[str]  # tensors with one entry a row in dimension 0, or nests of such, or lists with one item a row
    same: frozenset[str] = frozenset()  # tensors that all rows share and that must be equal
    blocks: tuple[str, ...] = ()  # those of `rows` that are one tensor a block of the denoiser
    padded: tuple[str, str] | None = None  # embeddings that may be of unequal length, and their mask


LAYOUTS = {
    "UNet2DConditionModel": Layout(
        "sample",
        "timestep",
        frozenset(
            (
                *("encoder_hidden_states", "timestep_cond", "added_cond_kwargs", "class_labels"),
                *("down_block_additional_residuals", "mid_block_additional_residual"),
            )
        ),
        blocks=("down_block_additional_residuals",),
    ),
    "SD3Transformer2DModel": Layout(
        "hidden_states",
        "timestep",
        frozenset(("encoder_hidden_states", "pooled_projections", "block_controlnet_hidden_states")),
        blocks=("block_controlnet_hidden_states",),
    ),
    "FluxTransformer2DModel": Layout(
        "hidden_states",
        "timestep",
        frozenset(("encoder_hidden_states", "pooled_projections", "guidance")),
        same=frozenset(("img_ids", "txt_ids")),
    ),
    "QwenImageTransformer2DModel": Layout(
        "hidden_states",
        "timestep",
        frozenset(("img_shapes", "guidance")),
        padded=("encoder_hidden_states", "encoder_hidden_states_mask"),
    ),
    "ZImageTransformer2DModel": Layout("x", "t", frozenset(("cap_feats",))),
}
