"""The order of jobs once more, told plainly: lists that are searched whole. It says which choices are right."""

from __future__ import annotations

from dataclasses import dataclass, field

from libs.ids import JobId, TenantId
from services.scheduler.order.ordering import TIERS, Offer, Shares, Waiting

Whose = tuple[str, TenantId]


@dataclass
class Given:
    """What a tier or tenant was given over its weight; `forfeit` is what it gave up when it last came back."""

    time: float = 0.0
    returns: int = 0
    forfeit: float = 0.0

    def come_back(self, clock: float) -> None:
        if self.time < clock:
            self.forfeit, self.time, self.returns = clock - self.time, clock, self.returns + 1

    def put_right(self, shift: float, returns: int) -> None:
        if returns != self.returns:
            absorbed = min(max(0.0, shift), self.forfeit)
            self.forfeit -= absorbed
            shift = max(0.0, shift - absorbed)
        self.time += shift


@dataclass
class Naive:
    """Waiting jobs in order of arrival, and what everybody was given."""

    shares: Shares
    queued: list[Waiting] = field(default_factory=list)
    apart: set[str] = field(default_factory=set)
    tiers: dict[str, Given] = field(default_factory=dict)
    tenants: dict[Whose, Given] = field(default_factory=dict)
    overtaken: dict[Whose, float] = field(default_factory=dict)
    clocks: dict[str, float] = field(default_factory=dict)  # of a tier's tenants; "" is that of the tiers
    running: dict[JobId, tuple[Waiting, int, int, bool]] = field(default_factory=dict)
    next_clocks: dict[str, float] = field(default_factory=dict)  # once one of the choices starts
    since_lane: int = 0
    tied: bool = False  # whether several tenants were owed the same when last asked: any of them may be first

    def lined(self, tier: str, tenant: TenantId | None = None) -> list[Waiting]:
        jobs = [job for job in self.queued if job.tier == tier and job.model_version not in self.apart]
        return [job for job in jobs if tenant in (None, job.tenant_id)]

    def add(self, job: Waiting) -> None:
        self.queued.append(job)
        self.queued.sort(key=lambda one: one.queued_at)  # stable: arrival decides among equals
        if job.model_version not in self.apart:
            self.arrived(job, before=1)

    def arrived(self, job: Waiting, before: int) -> None:
        """Bring back a tier and a tenant whose only lined up jobs are these."""
        if len(self.lined(job.tier)) == before:
            self.tiers.setdefault(job.tier, Given()).come_back(self.clocks.get("", 0.0))
        if len(self.lined(job.tier, job.tenant_id)) == before:
            self.of(job).come_back(self.clocks.get(job.tier, 0.0))

    def return_model(self, model: str) -> None:
        back = [job for job in self.queued if job.model_version == model]
        empty = {tier for tier in TIERS if not self.lined(tier)}
        idle = {job.tenant_id + job.tier for job in back if not self.lined(job.tier, job.tenant_id)}
        self.apart.discard(model)
        for job in back:
            if job.tier in empty:
                self.tiers.setdefault(job.tier, Given()).come_back(self.clocks.get("", 0.0))
            if job.tenant_id + job.tier in idle:
                self.of(job).come_back(self.clocks.get(job.tier, 0.0))

    def of(self, job: Waiting) -> Given:
        return self.tenants.setdefault((job.tier, job.tenant_id), Given())

    def choices(self, offer: Offer, now: float) -> tuple[list[Waiting], list[Waiting]]:
        """Return the jobs that may be next, and those that the lane may put before them."""
        can = [
            job for job in self.queued if job.model_version not in self.apart and offer(job.model_version) is not None
        ]
        if not can:
            return [], []
        late: list[Waiting] = []
        usual: list[Waiting] = []
        order = sorted({job.tier for job in can}, key=lambda tier: (self.tiers[tier].time, TIERS.index(tier)))
        self.tied = False
        for tier in order if self.since_lane >= 9 else order[:1]:
            mine = [job for job in can if job.tier == tier]
            least = min(self.of(job).time for job in mine)
            names = {job.tenant_id for job in mine if self.of(job).time == least}
            owed = [[job for job in mine if job.tenant_id == name] for name in names]
            self.tied = self.tied or len(owed) > 1
            if tier == order[0]:
                self.next_clocks = {"": self.tiers[tier].time, tier: least}
                for jobs in owed:
                    usual += self.after_locality(best(jobs), mine, offer, least)
            else:
                self.next_clocks[tier] = least
            late += [jobs[0] for jobs in owed if self.due(jobs[0]) < now and usual != [jobs[0]]]
        if self.since_lane < 9:
            late = []
        return usual, late if self.tied else [job for job in late if self.due(job) == min(map(self.due, late))]

    def due(self, job: Waiting) -> float:
        return job.queued_at + self.shares.wait_s(job.tier)

    def after_locality(self, first: Waiting, mine: list[Waiting], offer: Offer, least: float) -> list[Waiting]:
        slack = offer(first.model_version) or 0.0
        if not slack:
            return [first]
        found: dict[float, list[Waiting]] = {}
        for model in {job.model_version for job in mine if offer(job.model_version) == 0.0}:
            jobs = [job for job in mine if job.model_version == model]
            front = min(self.of(job).time for job in jobs)
            for name in {job.tenant_id for job in jobs if self.of(job).time == front}:
                own = [job for job in mine if job.tenant_id == name]
                job = best([job for job in own if offer(job.model_version) == 0.0])
                ahead = (front - least) * job.weight
                if job is not best(own):
                    ahead += self.overtaken.get((job.tier, name), 0.0)
                found.setdefault(ahead, []).append(job)
        allowed = [(ahead, jobs) for ahead, jobs in found.items() if ahead <= slack]
        many = len({name for jobs in found.values() for name in {j.tenant_id for j in jobs}}) > 1
        if not allowed:
            return [first]
        return min(allowed)[1] if not many else [job for _, jobs in allowed for job in jobs]

    def start(self, job: Waiting, *, by_lane: bool) -> None:
        whose, units = (job.tier, job.tenant_id), max(10.0, job.units)
        for name in ("", job.tier):
            self.clocks[name] = max(self.clocks.get(name, 0.0), self.next_clocks[name])
        first = job is best(self.lined(*whose))
        self.overtaken[whose] = 0.0 if first else self.overtaken.get(whose, 0.0) + job.units
        self.of(job).time += units / job.weight
        if not by_lane:
            self.tiers[job.tier].time += units / self.shares.weight(job.tier)
        self.running[job.job_id] = job, self.of(job).returns, self.tiers[job.tier].returns, by_lane
        self.since_lane = 0 if by_lane else self.since_lane + 1
        self.leave(job)

    def leave(self, job: Waiting) -> None:
        self.queued.remove(job)
        if job.model_version in self.apart:
            return
        if not self.lined(job.tier):
            self.clocks[job.tier] = max(self.clocks.get(job.tier, 0.0), self.of(job).time)
        if not any(map(self.lined, TIERS)):
            self.clocks[""] = max(self.clocks.get("", 0.0), self.tiers[job.tier].time)

    def settle(self, job_id: JobId, actual: float) -> None:
        job, returns, tier_returns, by_lane = self.running.pop(job_id)
        off = max(10.0, actual) - max(10.0, job.units)
        self.of(job).put_right(off / job.weight, returns)
        if not by_lane:
            self.tiers[job.tier].put_right(off / self.shares.weight(job.tier), tier_returns)


def best(jobs: list[Waiting]) -> Waiting:
    """Return the job of highest priority, of those the one that came first."""
    return max(jobs, key=lambda job: job.priority)  # the first of equals
