"""What a worker says about itself, and its JSON form in the registry."""

from __future__ import annotations

import contextlib
import functools
import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from libs.errors import InternalFault
from libs.fleet.model_rows import ModelRows
from libs.ids import WorkerId

WORKERS_PREFIX = "/darkroom/workers/"
MAX_RECORD_BYTES = 16_384  # room for some 300 models; times the workers of a fleet, etcd is no place for more


class BadRecord(InternalFault):
    """A worker record that cannot be read or written."""


@dataclass(frozen=True, slots=True)
class WorkerRecord:
    """One worker as it sees itself."""

    worker_id: WorkerId
    incarnation: str  # random, new with every start of the process
    address: str  # host:port of its gRPC listener
    device: str  # `cpu` or the GPU's UUID
    memory_bytes: int  # of the device
    models: tuple[str, ...]  # usable, `id@version`
    resident: tuple[str, ...]  # loaded now, `id@version`
    rows: int  # can run at once
    rows_in_use: int
    started_at: float  # Unix seconds
    draining: bool = False  # finishes what it has and takes nothing new
    residency: tuple[tuple[str, str], ...] = ()  # (`id@version`, `vram` or `ram`) of the models not on disk only
    load_share: float = 0.0  # of what pays to run at once: 0 idle, 1 full, above it some wait
    step_table_version: int = 0  # changes when the worker measured something new of its speed
    utilisation_ratio: float | None = None  # of the GPU, 0 to 1; this and what follows a few seconds old
    memory_used_bytes: int | None = None  # of the GPU, by all processes
    temperature_celsius: float | None = None
    power_watts: float | None = None
    engine_build: str = ""  # digest of all that its pictures depend on besides weights and request; empty: untold
    throttle: tuple[str, ...] | None = None  # what holds the GPU's clocks down, in NVML's words; None: it does not tell
    memory_free_bytes: int | None = None  # of the device, for weights and passes, when models came or left last
    model_rows: tuple[ModelRows, ...] = ()  # of resident models, as measured; a model that is not named: untold
    device_name: str = ""  # what devices of its kind are called, `NVIDIA H200`; empty: untold

    @property
    def key(self) -> str:
        """Its key in the registry."""
        return WORKERS_PREFIX + self.worker_id

    @property
    def class_of_device(self) -> str:
        """What it has in common with workers that are as fast: `cpu`, or what its GPU is called."""
        return self.device_name or ("cpu" if self.device == "cpu" else "gpu")

    def to_json(self) -> bytes:
        """Return its stored form. Raises BadRecord above 16 kB."""
        encoded = json.dumps(asdict(self), separators=(",", ":")).encode()
        if len(encoded) > MAX_RECORD_BYTES:
            raise BadRecord(f"the record of {self.worker_id} has {len(encoded)} bytes of {MAX_RECORD_BYTES}")
        return encoded

    @classmethod
    def from_json(cls, encoded: bytes) -> WorkerRecord:
        """Read a stored form. Raises BadRecord naming the field.

        Fields of a newer version are ignored; of those that came later, what is missing or odd counts as untold.
        """
        stored = _object(encoded)
        return cls(
            worker_id=WorkerId(_text(stored, "worker_id")),
            incarnation=_text(stored, "incarnation"),
            address=_text(stored, "address"),
            device=_text(stored, "device"),
            memory_bytes=_count(stored, "memory_bytes"),
            models=_shared(_texts(stored, "models")),
            resident=_texts(stored, "resident"),
            rows=_count(stored, "rows"),
            rows_in_use=_count(stored, "rows_in_use"),
            started_at=_amount(stored, "started_at"),
            draining=stored.get("draining") is True,
            **_later(stored),
        )


def _object(encoded: bytes) -> dict[str, Any]:
    if len(encoded) > MAX_RECORD_BYTES:
        raise BadRecord(f"a worker record has {len(encoded)} bytes of {MAX_RECORD_BYTES}")
    try:
        stored = json.loads(encoded)
    except (ValueError, RecursionError) as error:  # errors of JSON and of UTF-8 are ValueErrors
        raise BadRecord(f"a worker record is not JSON: {error}") from error
    if not isinstance(stored, dict):
        raise BadRecord("a worker record is not a JSON object")
    return stored


def _later(stored: dict[str, Any]) -> dict[str, Any]:
    """Return the fields that not every version writes, where they can be read."""
    readers: dict[str, Callable[[dict[str, Any], str], Any]] = {
        "residency": _pairs,
        "load_share": _amount,
        "step_table_version": _count,
        "utilisation_ratio": _amount,
        "memory_used_bytes": _count,
        "temperature_celsius": _amount,
        "power_watts": _amount,
        "throttle": _texts,
        "memory_free_bytes": _count,
        "model_rows": _model_rows,
        "engine_build": _text,
        "device_name": _text,
    }
    found = {}
    for name, read in readers.items():
        with contextlib.suppress(BadRecord):
            found[name] = read(stored, name)
    return found


def _text(stored: dict[str, Any], name: str) -> str:
    value = stored.get(name)
    if not isinstance(value, str) or not value:
        raise BadRecord(f"a worker record's {name} is not a text")
    return value


def _texts(stored: dict[str, Any], name: str) -> tuple[str, ...]:
    values = stored.get(name)
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise BadRecord(f"a worker record's {name} is not a list of texts")
    return tuple(values)


@functools.lru_cache(maxsize=1024)
def _shared(models: tuple[str, ...]) -> tuple[str, ...]:
    """Return the same tuple for equal ones: most workers of a fleet have the same models."""
    return models


def _pairs(stored: dict[str, Any], name: str) -> tuple[tuple[str, str], ...]:
    values = stored.get(name)
    if not isinstance(values, list):
        raise BadRecord(f"a worker record's {name} is not a list of pairs")
    texts = [_texts({name: value}, name) for value in values]
    if not all(len(pair) == 2 for pair in texts):
        raise BadRecord(f"a worker record's {name} is not a list of pairs")
    return tuple((pair[0], pair[1]) for pair in texts)


def _model_rows(stored: dict[str, Any], name: str) -> tuple[ModelRows, ...]:
    values = stored.get(name)
    if not isinstance(values, list):
        raise BadRecord(f"a worker record's {name} is not a list")
    try:
        return tuple(ModelRows.from_json(value) for value in values)
    except ValueError as error:
        raise BadRecord(f"a worker record's {name}: {error}") from error


def _count(stored: dict[str, Any], name: str) -> int:
    value = stored.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise BadRecord(f"a worker record's {name} is not a whole number")
    return value


def _amount(stored: dict[str, Any], name: str) -> float:
    value = stored.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise BadRecord(f"a worker record's {name} is not a finite number")
    return float(value)
