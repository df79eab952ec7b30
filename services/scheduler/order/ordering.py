"""Which waiting job is next. Pure: `now` is an argument, nothing is awaited.

Tiers share by weight and tenants of a tier share by weight: whoever was given least GPU time over its weight is next
(order/account.py). A start is charged by estimate and corrected when the attempt is over; loading a model is charged
to nobody. A tenant's priority orders only its own jobs; otherwise they go by arrival. Three exceptions, all bounded:

    locality   while the next job's model would have to be loaded, jobs of models in memory may go before it until
               their tenant, or they themselves within their own tenant, are one such load ahead
    lane       a tenant that is owed most, and whose oldest job waited past its tier's bound, goes before heavier
               tiers; at most one of ten dispatches, and its tier is not charged for it
    lag        whose models were not to be had makes up for a minute of that at most

Jobs of models that nobody alive can run wait apart with a reason, retries rest until their time; neither costs the
others anything. Wherever this says model, jobs that need different rows or sizes of it count as different ones (their
lines), so that what fits nowhere now holds up nobody. Every operation takes O(log n) and as many steps as there are
lines with waiting jobs; the parts are in services/scheduler/order. After a restart all begin even.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from types import MappingProxyType

from libs.ids import JobId, TenantId
from services.scheduler.order.charges import Charges
from services.scheduler.order.index import Index
from services.scheduler.order.places import Places
from services.scheduler.order.resting import Resting
from services.scheduler.order.shares import TIERS, Shares
from services.scheduler.order.tiers import Tiers
from services.scheduler.order.waiting import Offer, Standing, Waiting

__all__ = ["TIERS", "Offer", "Ordering", "Shares", "Standing", "Waiting"]

NOBODY = TenantId("")


class Ordering:
    """The waiting jobs in order."""

    def __init__(self, shares: Shares | None = None) -> None:
        self._tiers = Tiers(shares or Shares())
        self._index = Index()
        self._resting = Resting()
        self._charges = Charges()
        self._apart: dict[str, str] = {}  # why nobody can run a model
        self._unjudged: dict[str, None] = {}  # models that nobody was asked about
        self._number = 0
        self._places = Places()
        self.late: dict[str, int] = {}  # by tier, how many jobs started after their bound

    def __len__(self) -> int:
        return len(self._index) + len(self._resting.jobs)

    def __contains__(self, job_id: object) -> bool:
        return self._index.get(JobId(str(job_id))) is not None or job_id in self._resting.jobs

    def share(self, shares: Shares) -> None:
        """Weigh the tiers anew."""
        self._tiers.share(shares)

    def fork(self) -> Ordering:
        """Return a copy that goes its own way; what neither changes they share, so that it costs little."""
        twin = Ordering()
        twin._tiers, twin._index, twin._resting = self._tiers.fork(), self._index.fork(), self._resting.fork()
        twin._charges, twin._apart, twin._unjudged = self._charges.copy(), self._apart.copy(), self._unjudged.copy()
        twin._number = self._number
        return twin

    def add(self, waiting: Waiting, now: float) -> None:
        """Put a job in the queue; one that is there already stays as it is."""
        if waiting.job_id in self:
            return
        self._places.forget()
        if waiting.not_before > now:
            self._resting.add(waiting)
        else:
            self._line_up(waiting)

    def remove(self, job_id: JobId) -> bool:
        """Take a job out and charge nothing; False when it was not there."""
        self._places.forget()
        if self._resting.pop(job_id) is not None:
            return True
        entry = self._index.pop(job_id)
        if entry is not None:
            self._tiers.removed(entry, self._index.alive)
        return entry is not None

    def gone(self, job_id: JobId, *, runs: bool = False) -> None:
        """Take a job out; unless it `runs`, an attempt whose end nobody tells of is off its device too."""
        if not runs:
            self.settled(job_id, 0.0)
        self.remove(job_id)

    def wake(self, now: float) -> None:
        """Line up the retries whose time has come."""
        for waiting in self._resting.due(now):
            self._places.forget()
            self._line_up(waiting)

    def next_wake(self) -> float | None:
        """Return when the next retry is due."""
        return self._resting.next_time()

    def next(self, offer: Offer, now: float) -> Waiting | None:
        """Return the next job whose model version somebody takes now; it stays in the queue until it is started."""
        entry = self._tiers.next(functools.cache(offer), now)
        return entry[2] if entry else None

    def started(self, job_id: JobId, now: float) -> None:
        """Take a job out and charge its tenant the estimate."""
        entry = self._index.get(job_id)
        if entry is not None:
            self.settled(job_id, 0.0)  # nobody told that an earlier start of it came to nothing
            tier = entry[2].tier
            self.late[tier] = self.late.get(tier, 0) + (entry[0] + self._tiers.shares.wait_s(tier) < now)
            by_lane = self._tiers.start(entry)
            self._charges.charge(self._tiers.by_name[tier], entry, by_lane=by_lane)
        self.remove(job_id)

    def taken_up(self, waiting: Waiting) -> None:
        """Count a job that runs since an earlier leader among those of its tenant that run."""
        self._charges.take_up(self._tiers.named(waiting.tier), waiting)

    def settled(self, job_id: JobId, actual_units: float) -> None:
        """Correct the charge of a job whose attempt is over; told twice or of an unknown job it changes nothing."""
        if self._charges.settle(self._tiers.by_name, job_id, actual_units):
            self._places.forget()

    def judge(self, reason: Callable[[str], str | None], *, anew: bool) -> None:
        """Hear why nobody alive can run a model (None: somebody can), of models that are new here, or of all."""
        models = self._unjudged if not anew else dict.fromkeys([*self._tiers.models(), *self._apart])
        self._unjudged = {}
        for model in models:
            why = reason(model)
            if why is not None and model not in self._apart:
                self._tiers.set_apart(model)
            elif why is None and model in self._apart:
                self._tiers.bring_back(model)
            self._apart.pop(model, None)
            if why is not None:
                self._apart[model] = why
            self._places.forget()

    @property
    def apart(self) -> Mapping[str, str]:
        """The models whose jobs wait apart, and why nobody can run them."""
        return MappingProxyType(self._apart)

    def reason(self, job_id: JobId) -> str | None:
        """Return why nobody can run a waiting job; None when somebody can."""
        entry = self._index.get(job_id)
        waiting = entry[2] if entry else self._resting.jobs.get(job_id)
        return self._apart.get(waiting.line) if waiting else None

    def standing(self, job_id: JobId) -> Standing | None:
        """Return where a job stands; None when it does not wait. A retry stands where it will line up."""
        waiting = self._resting.jobs.get(job_id)
        if waiting is not None:
            return self._places.exact(self).get(job_id) or self._places.of_new(self, self._tiers.by_name, waiting)
        entry = self._index.get(job_id)
        if entry is None:
            return None
        if len(self) == 1:
            return Standing(1, 0.0)
        return self._places.exact(self).get(job_id) or self._places.about(self._tiers.by_name, entry)

    def standing_of_new(self, tier: str, now: float, tenant_id: TenantId = NOBODY) -> Standing:
        """Return where a job would stand that came now."""
        return self._places.of_new(self, self._tiers.by_name, Waiting(JobId(""), tenant_id, tier, "", now, 0.0))

    def depth(self, tier: str) -> int:
        """Return how many jobs of a tier wait."""
        known = self._tiers.by_name.get(tier)
        return self._resting.by_tier[tier] + (known.count if known else 0)

    def oldest(self, tier: str) -> float | None:
        """Return since when the oldest waiting job of a tier waits, in Unix seconds, right to a second."""
        known = self._tiers.by_name.get(tier)
        return known.ages.oldest() if known else None

    def overdue(self, tier: str, now: float) -> int:
        """Return how many jobs of a tier waited longer than they should, right to a second."""
        known = self._tiers.by_name.get(tier)
        return known.ages.before(now - self._tiers.shares.wait_s(tier)) if known else 0

    @property
    def waiting_apart(self) -> int:
        """How many jobs wait whose model nobody can run."""
        return sum(tier.count - tier.lined for tier in tuple(self._tiers.by_name.values()))

    @property
    def lane_used(self) -> int:
        """How many jobs went before others because they had waited too long."""
        return self._tiers.lane.used

    def _line_up(self, waiting: Waiting) -> None:
        self._number += 1
        entry = (waiting.queued_at, self._number, waiting)
        apart = waiting.line in self._apart
        if not apart and waiting.line not in self._tiers.named(waiting.tier).lines:
            self._unjudged[waiting.line] = None
        self._index.put(entry)
        self._tiers.add(entry, apart=apart)
