"""Where the time of one drawing goes: encode, denoise, decode; told as each of them ends."""

from __future__ import annotations

from collections.abc import Callable

from services.modelserver.engine.protocol import Reports

_STAGES = ("encode", "denoise", "decode")


class Timeline:
    """Goes from one stage to the next, only forward; `close` tells the one it was in."""

    def __init__(self, reports: Reports, now: Callable[[], float]) -> None:
        self._reports = reports
        self._now = now
        self._at = 0
        self._since_s = now()

    def enter(self, stage: str) -> None:
        """End every stage before this one; does nothing when it is already there or past it."""
        while _STAGES[self._at] != stage and self._at < _STAGES.index(stage):
            self.close()
            self._at += 1

    def close(self) -> None:
        """Tell that the present stage is over."""
        end_s = self._now()
        self._reports.stage(_STAGES[self._at], self._since_s, end_s)
        self._since_s = end_s
