"""Pictures in flight: each job holds a lease for all of its pictures, as long as somebody renews it. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from libs.ids import JobId

_SOON_S = 1.0


@dataclass(frozen=True, slots=True)
class Lease:
    """The place of one job. It is free again at `until_s` (Unix seconds); `due_s` is when its work may be done."""

    reservation_id: JobId
    images: int
    until_s: float
    due_s: float


def live(leases: Iterable[Lease], now_s: float) -> tuple[Lease, ...]:
    """Return those that nobody has let run out."""
    return tuple(lease for lease in leases if lease.until_s > now_s)


def images(leases: Iterable[Lease], now_s: float) -> int:
    """Return the pictures in flight."""
    return sum(lease.images for lease in leases if lease.until_s > now_s)


def without(leases: Iterable[Lease], reservation_id: JobId) -> tuple[Lease, ...]:
    """Return all but the lease of one job."""
    return tuple(lease for lease in leases if lease.reservation_id != reservation_id)


def wait_s(leases: Iterable[Lease], excess: int, now_s: float) -> float:
    """Return the seconds until `excess` pictures may have ended; an expectation, jobs also wait for devices."""
    ends = sorted((min(lease.due_s, lease.until_s), lease.images) for lease in live(leases, now_s))
    for end_s, freed in ends:
        excess -= freed
        if excess <= 0:
            return max(_SOON_S, end_s - now_s)
    return _SOON_S
