"""What lies there for jobs that come now: pictures by key and the runs that bring some. Pure; every store fills one."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping

from services.scheduler.job import Job, OutboxMessage
from services.scheduler.results import reuse
from services.scheduler.results.cache_key import REFRESH
from services.scheduler.results.reuse import Terms, Written
from services.scheduler.storage import changes


class Shelf:
    """Drawn and open jobs of the keys that are asked for, the newest first; `kept` until when each picture lies.

    What is accepted goes onto it, so that of two alike that come together the second joins the first.
    """

    def __init__(self, jobs: Iterable[Job] = (), kept: Mapping[str, float | None] | None = None) -> None:
        self._jobs: dict[str, list[Job]] = defaultdict(list)
        self._kept = kept or {}
        for job in jobs:
            self._jobs[job.cache_key].append(job)

    def accept(self, job: Job, terms: Terms | None, outbox: Collection[OutboxMessage]) -> Written:
        """Return how a new job enters: answered, joined to a run or waiting."""
        alike = self._jobs[job.cache_key] if job.cache_key else []
        source = run = None
        if terms is not None and job.spec.cache != REFRESH:
            source = next((each for each in alike if reuse.can_answer(each, job) and self._lies(each, terms)), None)
            run = None if source else reuse.run_to_join(alike, job)
        if source is not None and terms is not None:
            hit = reuse.answered(job, source, terms)
            return Written(hit.step, (*outbox, *hit.outbox))
        step = changes.accepted(job if run is None else reuse.joined(job, run))
        if job.cache_key:
            alike.insert(0, step.job)
        return Written(step, tuple(outbox))

    def _lies(self, source: Job, terms: Terms) -> bool:
        return all(_until(self._kept, image.sha256) > terms.now + reuse.MARGIN_S for image in source.images)


def _until(kept: Mapping[str, float | None], sha256: str) -> float:
    until = kept.get(sha256, 0.0)
    return math.inf if until is None else until
