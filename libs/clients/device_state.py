"""What a model server tells of its device: where models are, and what its time goes into."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ModelPlace:
    """Where a model's weights are: `vram`, `ram` or `disk`; `load_share` 0 to 1 while it is loaded, else None."""

    pinned: str
    tier: str
    weight_bytes: float
    load_share: float | None = None


@dataclass(frozen=True, slots=True)
class DeviceTime:
    """Milliseconds of a device: with work, waiting for a model and nothing else, and unused.

    Of those with work `failed_ms` were of attempts that ended without their pictures, `stopped_ms` of those that were
    told to stop.
    """

    busy_ms: float = 0.0
    loading_ms: float = 0.0
    idle_ms: float = 0.0
    failed_ms: float = 0.0
    stopped_ms: float = 0.0

    @property
    def all_ms(self) -> float:
        """All that passed."""
        return self.busy_ms + self.loading_ms + self.idle_ms

    def plus(self, other: DeviceTime) -> DeviceTime:
        """Return both together."""
        return DeviceTime(*(mine + theirs for mine, theirs in zip(self.as_list(), other.as_list(), strict=True)))

    def minus(self, earlier: DeviceTime) -> DeviceTime:
        """Return what came since an earlier moment."""
        pairs = zip(self.as_list(), earlier.as_list(), strict=True)
        return DeviceTime(*(max(0.0, mine - theirs) for mine, theirs in pairs))

    def as_list(self) -> list[float]:
        """Return all of them, in order."""
        return [self.busy_ms, self.loading_ms, self.idle_ms, self.failed_ms, self.stopped_ms]
