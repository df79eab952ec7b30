"""Weight files: which a component needs, and whether they are whole. Reads headers only."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path

from services.modelserver.refusal import Unusable, read_json

_LENGTH_BYTES = 8
_MAX_HEADER_BYTES = 100 * 1024 * 1024


def check_weights(component: Path, stem: str, shown: str) -> None:
    """Check that the component's weights, one file or shards with an index, are there and whole.

    `stem` is `model` or `diffusion_pytorch_model`; `shown` is how the folder is called in reasons.
    """
    for name in _wanted(component, stem, shown):
        file = component / name
        if not file.is_file():
            raise Unusable(f"a file is missing: {shown}/{name}")
        check_safetensors(file, f"{shown}/{name}")


def _wanted(component: Path, stem: str, shown: str) -> Iterator[str]:
    index = component / f"{stem}.safetensors.index.json"
    if not index.is_file():
        yield f"{stem}.safetensors"
        return
    shards = read_json(index, f"{shown}/{index.name}").get("weight_map")
    if not isinstance(shards, dict) or not shards:
        raise Unusable(f"{shown}/{index.name} names no weights")
    for name in sorted({str(name) for name in shards.values()}):
        if Path(name).name != name:
            raise Unusable(f"{shown}/{index.name} names a file of another folder")
        yield name


def check_safetensors(file: Path, shown: str) -> None:
    """Check the header of a safetensors file and that the file is as long as it says."""
    size = file.stat().st_size
    with file.open("rb") as opened:
        start = opened.read(_LENGTH_BYTES)
        length = struct.unpack("<Q", start)[0] if len(start) == _LENGTH_BYTES else size
        if length > min(size - _LENGTH_BYTES, _MAX_HEADER_BYTES):
            raise Unusable(f"{shown} is not a whole safetensors file")
        header = opened.read(length)
    try:
        tensors = json.loads(header)
        ends = [entry["data_offsets"][1] for name, entry in tensors.items() if name != "__metadata__"]
        whole = all(isinstance(end, int) for end in ends) and max(ends, default=0) == size - _LENGTH_BYTES - length
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise Unusable(f"{shown} has a broken safetensors header") from None
    if not whole:
        raise Unusable(f"{shown} is cut short or has bytes too many")
