"""Putting the denoiser calls of several requests into one forward, row by row, and taking the answer apart again.

Layouts says which arguments have one entry a row, by class of denoiser. A call of a class that it does not know, or
with an argument that it does not name, is run alone: slower, never wrong.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionOutput

from libs.generation.batch_key import AdapterUse, BatchKey
from services.modelserver.engine.calls import Call
from services.modelserver.engine.layouts import LAYOUTS, Layout

BUCKETS = (1, 2, 4, 8, 12, 16, 24, 32, 48, 64)  # rows of forwards whose shapes are to repeat


@dataclass(frozen=True, slots=True, eq=False)
class Packet:
    """A call in a form that can be put together with others of the same `key`."""

    key: BatchKey
    rows: int
    layout: Layout
    arguments: dict[str, Any]  # by name, as given
    wants_object: bool = False  # the answer with a name, not as a tuple


class Topologies:
    """What the calls of one run have in common; a pipeline hands over the same conditions at every step.

    With `strict`, embeddings are never padded to the length of others.
    """

    def __init__(self, *, strict: bool = False) -> None:
        self._strict = strict
        self._values: tuple[Any, ...] = ()
        self._told: tuple[str, ...] | None = None

    def of(self, conditions: dict[str, Any], layout: Layout) -> tuple[str, ...] | None:
        """Return what rows must have in common of these arguments; None when nothing is known about one of them."""
        values = tuple(conditions.values())
        if len(values) == len(self._values) and all(a is b for a, b in zip(values, self._values, strict=True)):
            return self._told
        told = [_told(name, value, layout) for name, value in conditions.items()]
        if self._strict and layout.padded is not None:
            told.append(f"length {conditions[layout.padded[0]].shape[1]}")
        self._values = values
        self._told = None if None in told else tuple(sorted(part for part in told if part is not None))
        return self._told


def packet(
    call: Call, module: Any, version: str, adapters: AdapterUse, known: Topologies | None = None
) -> Packet | None:
    """Return the packable form of a denoiser call, None when it must run alone."""
    layout = LAYOUTS.get(type(module).__name__)
    if layout is None:
        return None
    arguments = dict(zip(_names(module.forward.__func__), call.args, strict=False)) | call.kwargs
    for name in layout.blocks:  # one tensor a block, each with all rows
        if isinstance(arguments.get(name), list):
            arguments[name] = tuple(arguments[name])
    wants_object = arguments.pop("return_dict", True) is not False
    conditions = {
        name: value
        for name, value in arguments.items()
        if name not in (layout.sample, layout.time)
        and value is not None
        and not (isinstance(value, dict) and not value)
    }
    topology = (known or Topologies()).of(conditions, layout)
    if topology is None:
        return None
    sample = arguments[layout.sample]
    first = sample[0]
    key = BatchKey(version, adapters, tuple(first.shape), str(first.dtype), topology)
    return Packet(key, len(sample), layout, arguments, wants_object)


def forward(module: Any, packets: Sequence[Packet], *, pad_to: int = 0) -> list[Any]:
    """Run all in one forward; returns what each call would have got by itself.

    `pad_to` rows are run at least, the last one repeated, for devices that like to see the same shapes again.
    """
    rows = [packed.rows for packed in packets]
    spare = max(0, pad_to - sum(rows))
    layout = packets[0].layout
    names = packets[0].arguments.keys() | (set(layout.padded) if layout.padded else set())
    lengths = _lengths(packets)
    merged = {name: _merged(name, packets, lengths) for name in names}
    if spare:
        merged = {name: _repeated(value, name, layout, sum(rows), spare) for name, value in merged.items()}
    output = module(**merged, return_dict=False)[0]
    return [
        UNet2DConditionOutput(sample=part) if packed.wants_object else (part,)
        for packed, part in zip(packets, _split(output, rows), strict=True)
    ]


def halves(packed: Packet) -> tuple[Packet, Packet] | None:
    """Return a call's rows as two calls, None when it has one row only."""
    middle = packed.rows // 2
    if not middle:
        return None
    time = {packed.layout.time: _time(packed)}
    both = []
    for part in (slice(0, middle), slice(middle, packed.rows)):
        arguments = {
            name: _cut(value, part) if _by_row(name, packed.layout) else value
            for name, value in (packed.arguments | time).items()
        }
        both.append(Packet(packed.key, part.stop - part.start, packed.layout, arguments, packed.wants_object))
    return both[0], both[1]


def joined(outputs: Sequence[Any]) -> Any:
    """Return the answers of the halves as the answer to the whole."""
    parts = [output[0] for output in outputs]
    whole: Any = [row for part in parts for row in part] if isinstance(parts[0], list) else torch.cat(parts)
    return (whole,) if isinstance(outputs[0], tuple) else UNet2DConditionOutput(sample=whole)


def finite(outputs: Sequence[Any]) -> list[bool]:
    """Return which answers hold numbers only; waits for the device once."""
    flags = []
    for output in outputs:
        tensors = output[0] if isinstance(output[0], list) else [output[0]]
        flags.append(sum(tensor.sum(dtype=torch.float32) for tensor in tensors))  # NaN and infinity stay what they are
    return [bool(flag) for flag in torch.isfinite(torch.stack(flags)).tolist()]


def rows_of(call: Call) -> int:
    """Return the rows of a call that runs alone, as its first argument tells."""
    first = call.args[0] if call.args else next(iter(call.kwargs.values()), None)
    return len(first) if isinstance(first, (torch.Tensor, list)) else 1


@functools.cache
def _names(method: Callable[..., Any]) -> tuple[str, ...]:
    return tuple(inspect.signature(method).parameters)[1:]


def _told(name: str, value: Any, layout: Layout) -> str | None:
    """Return what rows must have in common of an argument; None when nothing is known about it."""
    if layout.padded is not None and name in layout.padded:
        return f"{layout.padded[0]}:{tuple(value.shape[2:])}" if name == layout.padded[0] else ""
    if name in layout.rows:
        return f"{name}:{_shape(value)}"
    if name in layout.same:
        return f"{name}:{_digest(value)}"
    plain = isinstance(value, (bool, int, float, str))
    return f"{name}={value}" if plain else None


def _shape(value: Any) -> str:
    """Return the shape of one row."""
    if isinstance(value, torch.Tensor):
        return f"{tuple(value.shape[1:])}{value.dtype}"
    if isinstance(value, dict):
        return ",".join(f"{name}:{_shape(part)}" for name, part in sorted(value.items()))
    if isinstance(value, tuple):
        return ",".join(_shape(part) for part in value)
    if isinstance(value, list) and value and isinstance(value[0], torch.Tensor):
        return f"list of {value[0].ndim}-dimensional {value[0].dtype}"
    return repr(value[0]) if isinstance(value, list) and value else repr(value)


def _digest(tensor: torch.Tensor) -> str:
    """Return a digest of a small tensor that all rows share, like positions."""
    return hashlib.sha256(tensor.detach().float().cpu().numpy().tobytes()).hexdigest()[:16] + str(tuple(tensor.shape))


def _lengths(packets: Sequence[Packet]) -> set[int]:
    padded = packets[0].layout.padded
    return set() if padded is None else {packed.arguments[padded[0]].shape[1] for packed in packets}


def _merged(name: str, packets: Sequence[Packet], lengths: set[int]) -> Any:
    layout = packets[0].layout
    if name == layout.time:
        return torch.cat([_time(packed) for packed in packets])
    if layout.padded is not None and name == layout.padded[0]:
        return torch.cat([_padded(packed.arguments[name], max(lengths)) for packed in packets])
    if layout.padded is not None and name == layout.padded[1]:
        return _masks(packets, lengths)
    values = [packed.arguments.get(name) for packed in packets]
    return _joined_rows(values) if name == layout.sample or name in layout.rows else values[0]


def _time(packed: Packet) -> torch.Tensor:
    """Return one timestep a row; pipelines of one request may give a single one for all."""
    time = packed.arguments[packed.layout.time]
    if not isinstance(time, torch.Tensor):
        time = torch.tensor(time, device=packed.arguments[packed.layout.sample][0].device)
    return time.reshape(-1).expand(packed.rows)


def _padded(embeddings: torch.Tensor, length: int) -> torch.Tensor:
    missing = length - embeddings.shape[1]
    return torch.nn.functional.pad(embeddings, (0, 0, 0, missing)) if missing else embeddings


def _masks(packets: Sequence[Packet], lengths: set[int]) -> torch.Tensor | None:
    name, mask_name = packets[0].layout.padded or ("", "")
    masks = [packed.arguments.get(mask_name) for packed in packets]
    if len(lengths) == 1 and all(mask is None for mask in masks):
        return None
    full = []
    for packed, mask in zip(packets, masks, strict=True):
        embeddings = packed.arguments[name]
        here = torch.ones(embeddings.shape[:2], device=embeddings.device) if mask is None else mask.float()
        full.append(torch.nn.functional.pad(here, (0, max(lengths) - here.shape[1])))
    return torch.cat(full).bool()


def _joined_rows(values: Sequence[Any]) -> Any:
    first = values[0]
    if first is None:
        return None
    if isinstance(first, torch.Tensor):
        return torch.cat(list(values)) if len(values) > 1 else first
    if isinstance(first, dict):
        return {name: _joined_rows([value[name] for value in values]) for name in first}
    if isinstance(first, tuple):
        return tuple(_joined_rows(parts) for parts in zip(*values, strict=True))
    return [row for value in values for row in value]


def _cut(value: Any, part: slice) -> Any:
    if isinstance(value, dict):
        return {name: _cut(inner, part) for name, inner in value.items()}
    if isinstance(value, tuple):
        return tuple(_cut(inner, part) for inner in value)
    return None if value is None else value[part]


def _by_row(name: str, layout: Layout) -> bool:
    return name in (layout.sample, layout.time, *(layout.padded or ())) or name in layout.rows


def _repeated(value: Any, name: str, layout: Layout, rows: int, spare: int) -> Any:
    """Return the rows with the last one repeated `spare` times."""
    if not _by_row(name, layout) or value is None:
        return value
    last = _cut(value, slice(rows - 1, rows))
    return _joined_rows([value, *([last] * spare)])


def _split(output: Any, rows: Sequence[int]) -> list[Any]:
    parts, start = [], 0
    for count in rows:
        parts.append(output[start : start + count])
        start += count
    return parts
