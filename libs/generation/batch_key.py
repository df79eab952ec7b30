"""What must match for two rows to share one forward of the denoiser. This is the only definition of it."""

from __future__ import annotations

from dataclasses import dataclass

AdapterUse = tuple[tuple[str, float], ...]  # LoRA names with their weights, sorted


@dataclass(frozen=True, slots=True)
class BatchKey:
    """Rows with equal keys may run in one forward; steps, guidance scales, samplers and modes may all differ.

    A row is one image of one request × one guidance branch.
    """

    version: str  # of the weights, `id@version`
    adapters: AdapterUse
    latent: tuple[int, ...]  # shape of one row's latents
    dtype: str
    topology: tuple[str, ...]  # which conditions a row has, with their shapes; sorted
