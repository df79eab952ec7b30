"""What the last simulation said, kept true while its jobs leave. Pure."""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import dataclass, field, replace

from libs.ids import JobId
from services.scheduler.forecast.simulation import Start


@dataclass(slots=True)
class Outlook:
    """Starts by job, as of a moment in Unix seconds. `horizon`: how far it came, where its cap ended it.

    `busy_s`: what was left of all running jobs then.
    """

    as_of: float = 0.0
    starts: dict[JobId, Start] = field(default_factory=dict)
    horizon: float | None = None
    busy_s: float = 0.0
    _left: list[int] = field(default_factory=list)  # places of jobs that have left since

    def start(self, job_id: JobId) -> Start | None:
        """Return when a job is taken, its place counted among those that still wait."""
        start = self.starts.get(job_id)
        return start and replace(start, place=start.place - bisect_left(self._left, start.place))

    def left(self, job_id: JobId) -> None:
        """A job does not wait any more."""
        start = self.starts.pop(job_id, None)
        if start is not None:
            insort(self._left, start.place)
