"""How long a model takes to come onto a device, learned from the loads that attempts waited for. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from libs.generation.attempt import StageDone

VRAM, RAM, DISK = "vram", "ram", "disk"
PLACES = (VRAM, RAM, DISK)  # nearest first
PRIOR_S = {RAM: 2.0, DISK: 15.0}  # until one was seen
_NEW = 0.3  # weight of the latest load beside those before


class LoadTimes:
    """Seconds by model version and by where its weights were."""

    def __init__(self) -> None:
        self._seconds: dict[tuple[str, str], float] = {}

    def note(self, model_version: str, place: str, seconds: float) -> None:
        """Take in a load that began at `place`."""
        if place == VRAM or seconds <= 0.0:
            return  # it came while the order was under way, or the clock was set: nothing to learn
        known = self._seconds.get((model_version, place))
        self._seconds[model_version, place] = seconds if known is None else known + _NEW * (seconds - known)

    def note_stages(self, model_version: str, place: str, stages: Sequence[StageDone]) -> None:
        """Take in the loads among the stages of an attempt."""
        for stage in stages:
            if stage.name == "load":
                self.note(model_version, place, stage.end_s - stage.start_s)

    def seconds(self, model_version: str, place: str) -> float:
        """Return the estimate; 0.0 on the device. From RAM it takes no longer than from disk."""
        if place == VRAM:
            return 0.0
        of_disk = self._seconds.get((model_version, DISK), PRIOR_S[DISK])
        if place == DISK:
            return of_disk
        return self._seconds.get((model_version, RAM), min(PRIOR_S[RAM], of_disk))
