"""Weights that were quantised before they came here: they need the library that did it."""

from __future__ import annotations

import importlib.util
from typing import Any

from services.modelserver.refusal import Unusable

_LIBRARIES = {  # by `quant_method`
    "auto-round": "auto_round",
    "awq": "awq",
    "bitsandbytes": "bitsandbytes",
    "bitsandbytes_4bit": "bitsandbytes",
    "bitsandbytes_8bit": "bitsandbytes",
    "gguf": "gguf",
    "gptq": "gptqmodel",
    "modelopt": "modelopt",
    "quanto": "optimum",
    "sdnq": "sdnq",
    "torchao": "torchao",
}


def check_quantised(config: dict[str, Any], shown: str) -> None:
    """Check that weights which the configuration of a component calls quantised can be read; raises Unusable."""
    given = config.get("quantization_config")
    if given is None:
        return
    method = str(given.get("quant_method", "")) if isinstance(given, dict) else ""
    library = _LIBRARIES.get(method)
    if library is None:
        raise Unusable(
            f'{shown} is quantised by {method or "no method"}; options.weights = "float8" needs no such files'
        )
    if importlib.util.find_spec(library) is None:
        raise Unusable(f"{shown} is quantised by {method}, which needs the library {library}; it is not installed")
