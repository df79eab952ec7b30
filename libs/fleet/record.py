"""What a worker says about itself, and its JSON form in the registry."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from typing import Any

from libs.errors import InternalFault
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

    @property
    def key(self) -> str:
        """Its key in the registry."""
        return WORKERS_PREFIX + self.worker_id

    def to_json(self) -> bytes:
        """Return its stored form. Raises BadRecord above 16 kB."""
        encoded = json.dumps(asdict(self), separators=(",", ":")).encode()
        if len(encoded) > MAX_RECORD_BYTES:
            raise BadRecord(f"the record of {self.worker_id} has {len(encoded)} bytes of {MAX_RECORD_BYTES}")
        return encoded

    @classmethod
    def from_json(cls, encoded: bytes) -> WorkerRecord:
        """Read a stored form; fields of a newer version are ignored. Raises BadRecord naming the field."""
        stored = _object(encoded)
        return cls(
            worker_id=WorkerId(_text(stored, "worker_id")),
            incarnation=_text(stored, "incarnation"),
            address=_text(stored, "address"),
            device=_text(stored, "device"),
            memory_bytes=_count(stored, "memory_bytes"),
            models=_texts(stored, "models"),
            resident=_texts(stored, "resident"),
            rows=_count(stored, "rows"),
            rows_in_use=_count(stored, "rows_in_use"),
            started_at=_seconds(stored, "started_at"),
            draining=stored.get("draining") is True,
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


def _count(stored: dict[str, Any], name: str) -> int:
    value = stored.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise BadRecord(f"a worker record's {name} is not a whole number")
    return value


def _seconds(stored: dict[str, Any], name: str) -> float:
    value = stored.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise BadRecord(f"a worker record's {name} is not a time in seconds")
    return float(value)
