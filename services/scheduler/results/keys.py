"""Gives new jobs the key of their results, from what the workers say they draw with."""

from __future__ import annotations

from services.scheduler.job import Job
from services.scheduler.placement.fleet import Fleet
from services.scheduler.results.cache_key import cache_key
from services.scheduler.results.keeping import Keeping


class Keys:
    """Keys by the fleet as it is. With `tenant_only` no tenant gets pictures that another one's job drew."""

    def __init__(self, fleet: Fleet, keeping: Keeping) -> None:
        self._fleet = fleet
        self._tenant_only = keeping.tenant_only

    def keyed(self, job: Job) -> Job:
        """Return a new job with the key of its results; without one it is drawn and answers nobody else."""
        builds = self._fleet.can.builds(job.model_version)
        known = () if "" in builds else builds  # a worker that does not say may draw something else tomorrow
        key = cache_key(job.spec, job.model_version, job.tenant_id, known, tenant_only=self._tenant_only)
        return job.evolve(cache_key=key)

    def as_drawn(self, job: Job) -> str:
        """Return the key that the pictures of a job with a key have when it begins now.

        The fleet may draw, or allow, something else than when the job came: then its pictures are not for those who
        asked like it at that time, but for those who ask now. Who waits for this run gets them all the same.
        """
        return self.keyed(job).cache_key if job.cache_key else ""
