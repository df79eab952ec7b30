"""Plain values with tensors among them: copied off the device and back, and as JSON beside numbered tensors.

    None, bool, int, float, str   as they are
    list, tuple, dict             of the same
    torch.Tensor                  Held: a copy on the CPU that knows whether it came from the device
    numpy array or number         a copy

Anything else is NotPlain: a state that is kept by halves would go on to another picture.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

_SCALARS = (bool, int, float, str, type(None))
_TENSORS = frozenset(
    {torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64}
    | {torch.float16, torch.bfloat16, torch.float32, torch.float64}
)
_ARRAY_KINDS = "bif"
_MOST_DEPTH = 16


class NotPlain(Exception):
    """A value that cannot be kept, or JSON that is not of this module."""


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """A tensor on the CPU. `away` tells that it belongs on the device."""

    tensor: torch.Tensor
    away: bool


def hold(value: Any) -> Any:
    """Return a copy that shares nothing with `value` and holds no memory of the device; raises NotPlain."""
    return _walk(value, _hold_leaf)


def give_back(value: Any, device: torch.device) -> Any:
    """Return what was held, as fresh copies; tensors that came from the device are put on `device`."""

    def leaf(held: Any) -> Any:
        if isinstance(held, Held):
            return held.tensor.to(device, copy=True) if held.away else held.tensor.clone()
        return _hold_leaf(held)

    return _walk(value, leaf)


def to_json(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    """Return a held value as JSON, putting its tensors into `tensors` under new names."""
    match value:
        case Held():
            return {"tensor": _add(value.tensor, tensors), "away": value.away}
        case np.ndarray():
            return {"array": _add(torch.from_numpy(value), tensors)}
        case np.generic():
            return {"number": _add(torch.from_numpy(np.array(value)), tensors)}
        case tuple():
            return {"tuple": [to_json(item, tensors) for item in value]}
        case list():
            return [to_json(item, tensors) for item in value]
        case dict():
            return {"dict": [[to_json(key, tensors), to_json(item, tensors)] for key, item in value.items()]}
    if not isinstance(value, _SCALARS):
        raise NotPlain(f"a value of {type(value).__name__} was not held")
    return value


def from_json(node: Any, tensors: dict[str, torch.Tensor], depth: int = 0) -> Any:
    """Return the held value of JSON that may be hostile; takes each tensor out of `tensors`. Raises NotPlain."""
    if depth > _MOST_DEPTH:
        raise NotPlain("it is nested too deep")
    if isinstance(node, _SCALARS):
        return node
    if isinstance(node, list):
        return [from_json(item, tensors, depth + 1) for item in node]
    if not isinstance(node, dict):
        raise NotPlain("it is no JSON")
    match list(node.items()):
        case [("tensor", str(name)), ("away", bool(away))]:
            return Held(_take(name, tensors), away)
        case [("array", str(name))]:
            return _array(name, tensors)
        case [("number", str(name))]:
            return _array(name, tensors)[()]
        case [("tuple", list(items))]:
            return tuple(from_json(item, tensors, depth + 1) for item in items)
        case [("dict", list(pairs))]:
            return dict(_pair(pair, tensors, depth + 1) for pair in pairs)
    raise NotPlain("it has a part of an unknown kind")


def _walk(value: Any, leaf: Callable[[Any], Any], depth: int = 0) -> Any:
    if depth > _MOST_DEPTH:
        raise NotPlain("it is nested too deep")
    if type(value) in (list, tuple):
        return type(value)(_walk(item, leaf, depth + 1) for item in value)
    if type(value) is not dict:
        return leaf(value)
    if not all(type(key) in _SCALARS for key in value):
        raise NotPlain("a key is not plain")
    return {key: _walk(item, leaf, depth + 1) for key, item in value.items()}


def _hold_leaf(value: Any) -> Any:
    if type(value) in _SCALARS:
        return value
    if isinstance(value, torch.Tensor) and value.layout is torch.strided and value.dtype in _TENSORS:
        away = value.device.type != "cpu"
        copied = value.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        return Held(copied, away)
    if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in _ARRAY_KINDS and value.dtype.isnative:
        copy = np.array(value, order="C")
        return copy if isinstance(value, np.ndarray) else copy[()]
    raise NotPlain(f"a {type(value).__name__} cannot be kept")


def _add(tensor: torch.Tensor, tensors: dict[str, torch.Tensor]) -> str:
    name = str(len(tensors))
    tensors[name] = tensor
    return name


def _take(name: str, tensors: dict[str, torch.Tensor]) -> torch.Tensor:
    tensor = tensors.pop(name, None)
    if tensor is None or tensor.dtype not in _TENSORS:
        raise NotPlain("a tensor is missing, named twice or of an unknown type")
    return tensor


def _array(name: str, tensors: dict[str, torch.Tensor]) -> Any:
    tensor = _take(name, tensors)
    if tensor.dtype is torch.bfloat16:
        raise NotPlain("numpy has no such numbers")
    return tensor.numpy().copy()


def _pair(pair: Any, tensors: dict[str, torch.Tensor], depth: int) -> tuple[Any, Any]:
    if not isinstance(pair, list) or len(pair) != 2 or not isinstance(pair[0], _SCALARS):
        raise NotPlain("an entry is no pair")
    return pair[0], from_json(pair[1], tensors, depth)
