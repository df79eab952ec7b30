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
    """Milliseconds of a device: in passes of the engine, waiting for a model and nothing else, and unused."""

    busy_ms: float = 0.0
    loading_ms: float = 0.0
    idle_ms: float = 0.0

    @property
    def all_ms(self) -> float:
        """Together."""
        return self.busy_ms + self.loading_ms + self.idle_ms

    def plus(self, other: DeviceTime) -> DeviceTime:
        """Return both together."""
        return DeviceTime(*(mine + theirs for mine, theirs in zip(self.as_list(), other.as_list(), strict=True)))

    def minus(self, earlier: DeviceTime) -> DeviceTime:
        """Return what came since an earlier moment."""
        pairs = zip(self.as_list(), earlier.as_list(), strict=True)
        return DeviceTime(*(max(0.0, mine - theirs) for mine, theirs in pairs))

    def as_list(self) -> list[float]:
        """Return the three of them."""
        return [self.busy_ms, self.loading_ms, self.idle_ms]
