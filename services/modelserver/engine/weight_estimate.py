"""What a model's weights will take in memory, from the headers of its files; nothing of them is read."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from services.modelserver.models import ModelFolder
from services.modelserver.options import FLOAT8
from services.modelserver.refusal import Unusable, read_json
from services.modelserver.safe_loading import INDEX

_DENOISERS = ("unet", "transformer", "transformer_2")
_STEMS = ("diffusion_pytorch_model", "model")
_FLOAT_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
_LENGTH_BYTES = 8


def estimated_bytes(folder: ModelFolder, float_bytes: int) -> int:
    """Return the bytes of all weights of a model, its floats taking `float_bytes` each, or what its options say.

    Files that cannot be read count nothing: loading will say what is wrong with them.
    """
    total = 0
    for component in _components(folder):
        in_float8 = folder.options.weights == FLOAT8 and component.name in _DENOISERS
        for file in (file for stem in _STEMS for file in _files_of(component, stem)):
            total += _bytes_of(file, 1 if in_float8 else float_bytes)
    return total


def _components(folder: ModelFolder) -> Iterator[Path]:
    try:
        index = read_json(folder.path / INDEX, INDEX)
    except Unusable:
        return
    for name, value in index.items():
        left_out = name == "safety_checker" and not folder.options.safety_checker
        if isinstance(value, list) and not name.startswith("_") and not left_out:
            yield folder.path / name


def _files_of(component: Path, stem: str) -> Iterator[Path]:
    index = component / f"{stem}.safetensors.index.json"
    if not index.is_file():
        yield component / f"{stem}.safetensors"
        return
    try:
        shards = read_json(index, index.name).get("weight_map")
    except Unusable:
        return
    if isinstance(shards, dict):
        yield from (component / name for name in sorted({str(name) for name in shards.values()}))


def _bytes_of(file: Path, float_bytes: int) -> int:
    try:
        with file.open("rb") as opened:
            (length,) = struct.unpack("<Q", opened.read(_LENGTH_BYTES))
            header = json.loads(opened.read(min(length, file.stat().st_size)))
        entries = [entry for name, entry in header.items() if name != "__metadata__"]
        return sum(_tensor_bytes(entry, float_bytes) for entry in entries)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, struct.error):
        return 0


def _tensor_bytes(entry: dict[str, Any], float_bytes: int) -> int:
    start, end = entry["data_offsets"]
    dtype, size = str(entry["dtype"]), int(end) - int(start)
    return size // _FLOAT_BYTES[dtype] * float_bytes if dtype in _FLOAT_BYTES else size
