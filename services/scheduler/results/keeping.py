"""Where results lie, how long they are kept, and for whom."""

from __future__ import annotations

from dataclasses import dataclass

from libs.blobs.store import BlobStore

RESULT_LIFE_S = 24 * 3600.0
RECORD_LIFE_S = 30 * 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Keeping:
    """Seconds that results and the records of ended jobs are kept; whether tenants share drawn pictures."""

    result_life_s: float = RESULT_LIFE_S
    record_life_s: float = RECORD_LIFE_S
    tenant_only: bool = False


DEFAULT = Keeping()


@dataclass(frozen=True, slots=True)
class Results:
    """The pictures, and how they are kept."""

    blobs: BlobStore
    keeping: Keeping = DEFAULT
