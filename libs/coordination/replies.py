"""What etcd answers, without its messages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class KeyValue:
    """One key as stored. `lease_id` is 0 for a key without a lease."""

    key: str
    value: bytes
    create_revision: int
    mod_revision: int
    lease_id: int


@dataclass(frozen=True, slots=True)
class Listing:
    """All keys under a prefix, as they were at `revision`."""

    values: Mapping[str, KeyValue]
    revision: int


@dataclass(frozen=True, slots=True)
class Change:
    """One event of a watch; `value` is None when the key was deleted."""

    key: str
    value: bytes | None
    revision: int


@dataclass(frozen=True, slots=True)
class Grant:
    """A lease as granted; the server may raise the seconds asked for to its own floor."""

    lease_id: int
    ttl_s: int
