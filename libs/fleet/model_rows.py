"""How many rows a worker can draw side by side, of each model on its device and each size: as it has measured it.

A row is one image × one guidance branch of one request. Of sizes that are not named nothing is known yet.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ModelRows:
    """What a worker says of one model on its device."""

    model: str  # `id@version`
    in_use: int  # rows that draw now
    most: tuple[tuple[str, int], ...]  # by size of the pictures, `512x768`, with frames `512x768x16`

    @classmethod
    def from_json(cls, stored: object) -> ModelRows:
        """Read a stored form; raises ValueError when it is not one."""
        if not isinstance(stored, Mapping):
            raise ValueError("it is not an object")
        model, in_use, most = stored.get("model"), stored.get("in_use"), stored.get("most")
        if not isinstance(model, str) or not isinstance(most, list):
            raise ValueError("it names no model or no sizes")
        return cls(model, _count(in_use), tuple(_pair(pair) for pair in most))


def _pair(stored: object) -> tuple[str, int]:
    if not isinstance(stored, list) or len(stored) != 2 or not isinstance(stored[0], str):
        raise ValueError("a size is not a text and a number")
    return stored[0], _count(stored[1])


def _count(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError("rows are a whole number")
    return value
