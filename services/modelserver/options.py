"""How a model is loaded and run: the section `[options]` of its darkroom.toml."""

from __future__ import annotations

import re
from dataclasses import dataclass

DTYPES = ("float32", "float16", "bfloat16")
FLOAT8 = "float8"
NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")  # of a model, an alias, an adapter


@dataclass(frozen=True, slots=True)
class ModelOptions:
    """Options of one model. What is empty or 0 is left to the worker.

    `dtype` is that of an accelerator, empty for its usual one; a CPU computes in float32. `weights` of "float8" keeps
    the denoiser's weights in one byte each and computes in `dtype`: half the memory, somewhat slower, not the same
    pictures. Slicing and tiling trade time for memory. `compile` compiles the denoiser; sizes and numbers of rows that
    repeat are then faster, and each new one takes a while once. `strict` gives every forward the same number of rows
    (`most_rows`, or 8) and decodes every request alone, so that a picture is the same to the bit whatever its
    neighbours are; idle rows cost time. A model that is not used for `idle_s` seconds leaves
    the device. `most_rows` bounds a forward, whatever the measurements say. `fallback` names the model that may be
    drawn with instead. `safety_checker` of false leaves the model's own checker out.
    """

    dtype: str = ""
    weights: str = ""
    attention_slicing: bool = False
    vae_slicing: bool = False
    vae_tiling: bool = False
    compile: bool = False
    strict: bool = False
    idle_s: float = 0.0
    most_rows: int = 0
    fallback: str = ""
    safety_checker: bool = True


def wrong_options(options: ModelOptions) -> dict[str, bool]:
    """Return for each option that can be wrong whether it is."""
    return {
        "options.dtype": options.dtype not in ("", *DTYPES),
        "options.weights": options.weights not in ("", FLOAT8),
        # Weights that change their type around every layer cannot be traced.
        "options.compile": options.compile and options.weights == FLOAT8,
        "options.fallback": bool(options.fallback) and NAME.fullmatch(options.fallback) is None,
    }
