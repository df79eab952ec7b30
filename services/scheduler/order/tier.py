"""The tenants of one tier: in a line for each model, by virtual time. Picks the tier's next job.

Times of tenants that are backlogged with models to be had differ by no more than the locality slack and one job.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from libs.ids import TenantId
from services.scheduler.order.account import Account
from services.scheduler.order.ages import Ages
from services.scheduler.order.full import NOWHERE, Full
from services.scheduler.order.line import Line, Owed, resident, standing
from services.scheduler.order.queue import Alive
from services.scheduler.order.tenant import Tenant
from services.scheduler.order.waiting import Entry, Waiting


@dataclass(frozen=True, slots=True)
class Pick:
    """What a tier would start next, and of the tenant that is owed most its longest waiting job and its time."""

    entry: Entry
    oldest: Entry
    least: float


class Tier:
    """Tenants of one tier. A fork shares what neither side changes."""

    def __init__(self, weight: float) -> None:
        self.account = Account(weight)
        self.tenants: dict[TenantId, Tenant] = {}
        self.ages = Ages()
        self.count = 0
        self.units = 0.0
        self.lined = 0  # jobs of models that somebody can run
        self.lines: dict[str, Line] = {}
        self.apart: dict[str, dict[TenantId, None]] = {}  # models nobody can run, and whose jobs wait for them
        self.full = Full()
        self.clock = 0.0  # the least time of those that could be served last
        self._number = 0
        self._owner = object()
        self._sweep_at = 64

    def fork(self) -> Tier:
        """Return one that goes its own way."""
        twin = Tier(self.account.weight)
        twin.account, twin.ages = self.account.copy(), self.ages.copy()
        twin.tenants = self.tenants.copy()
        twin.count, twin.units, twin.lined = self.count, self.units, self.lined
        twin.lines = {model: line.copy() for model, line in self.lines.items()}
        twin.apart = {model: tenants.copy() for model, tenants in self.apart.items()}
        twin.full = self.full.copy()
        twin.clock, twin._number, twin._sweep_at = self.clock, self._number, self._sweep_at
        self._owner = object()  # what was owned is shared from now on
        return twin

    def add(self, entry: Entry, *, apart: bool) -> None:
        """Put a job in; `apart` when nobody can run its model."""
        waiting = entry[2]
        tenant, model = self.own(waiting.tenant_id), waiting.line
        tenant.account.weight = waiting.weight if waiting.weight > 0.0 else 1.0
        if tenant.most != waiting.running_images:
            tenant.most = waiting.running_images
            self._fill(waiting.tenant_id, tenant)
        new = model not in tenant.queues
        tenant.own(model).add(entry)
        self.ages.add(waiting.queued_at)
        self.count += 1
        self.units += waiting.units
        if apart:
            self.apart.setdefault(model, {})[waiting.tenant_id] = None
            return
        self._count_in(tenant, 1, waiting.units)
        if new:
            self._line_up(waiting.tenant_id, model)

    def removed(self, entry: Entry, alive: Alive) -> None:
        """Forget a job that is alive no more."""
        waiting = entry[2]
        tenant, model = self.own(waiting.tenant_id), waiting.line
        tenant.own(model).removed(entry, alive)
        self.ages.remove(waiting.queued_at)
        self.count -= 1
        self.units = self.units - waiting.units if self.count else 0.0
        apart = model in self.apart
        if not apart:
            tenant.count(-1, -waiting.units)
            self.lined -= 1
            if not self.lined:  # nobody is behind whom to come back: those who come next are even with the last
                self.clock = max(self.clock, tenant.account.time)
        if not tenant.queues[model].count:
            del tenant.queues[model]
            if apart:
                _leave_apart(self.apart, model, waiting.tenant_id)
        self.forget(waiting.tenant_id)

    def pick(self, offer: Callable[[str], float | None]) -> Pick | None:
        """Return what is next among the models that are to be had."""
        tops: dict[str, Owed] = {}
        costs: dict[str, float] = {}
        for model in tuple(self.lines):
            cost = offer(model)
            top = self._top(model) if cost is not None else None
            if cost is not None:
                costs[model] = cost
            if top is not None:
                tops[model] = top
        return _best(self.tenants, tops, costs) if tops else None

    def charge(self, entry: Entry, units: float) -> Account:
        """Charge the tenant of a job that starts, before it is removed; returns its account."""
        waiting = entry[2]
        tenant = self.own(waiting.tenant_id)
        if waiting.line in self.lines and entry is tenant.first(self.lines):
            tenant.overtaken = 0.0
        else:
            tenant.overtaken += waiting.units
        tenant.account.charge(units)
        return self.take_up(waiting)

    def take_up(self, waiting: Waiting) -> Account:
        """Count a job that runs, whoever started it; returns its tenant's account."""
        tenant = self.own(waiting.tenant_id)
        tenant.running += 1
        tenant.on_devices += waiting.images
        self._fill(waiting.tenant_id, tenant)
        return tenant.account

    def correct(self, tenant_id: TenantId, images: int, shift: float, lifts: int) -> None:
        """Correct the charge of a tenant whose job is over, and make room for another one."""
        tenant = self.own(tenant_id)
        tenant.running -= 1
        tenant.on_devices -= images
        self._fill(tenant_id, tenant)
        before = tenant.account.time
        tenant.account.correct(shift, lifts)
        if tenant.account.time < before:
            for model in tenant.queues:
                if model in self.lines:
                    self._line_up(tenant_id, model)
        self.forget(tenant_id)

    def own(self, tenant_id: TenantId) -> Tenant:
        """Return a tenant to change; a new one when it is not known."""
        tenant = self.tenants.get(tenant_id)
        if tenant is None:
            tenant = self.tenants[tenant_id] = Tenant(self._owner)
        elif tenant.owner is not self._owner:
            tenant = self.tenants[tenant_id] = tenant.copy(self._owner)
        return tenant

    def forget(self, tenant_id: TenantId) -> None:
        """Forget a tenant that wants nothing and was given no more than the others; seldom, look for more of them."""
        if _forgettable(self.tenants[tenant_id], self.clock):
            del self.tenants[tenant_id]
        elif len(self.tenants) > self._sweep_at:
            self.tenants = {n: t for n, t in self.tenants.items() if not _forgettable(t, self.clock)}
            self._sweep_at = 2 * len(self.tenants) + 64

    def set_apart(self, model: str) -> None:
        """Take the jobs of a model out of the lines: nobody can run it."""
        names = dict.fromkeys([*(name for _, _, name in sorted(self.lines.pop(model, []))), *self.full])
        queued = {name: None for name in names if name in self.tenants and model in self.tenants[name].queues}
        for name in queued:
            tenant = self.own(name)
            queue = tenant.queues[model]
            tenant.count(-queue.count, -queue.units)
            self.lined -= queue.count
        if queued:
            self.apart[model] = queued

    def bring_back(self, model: str) -> None:
        """Put the jobs of a model back: somebody can run it."""
        for name in self.apart.pop(model, {}):
            tenant = self.own(name)
            self._count_in(tenant, tenant.queues[model].count, tenant.queues[model].units)
            self._line_up(name, model)

    def _count_in(self, tenant: Tenant, jobs: int, units: float) -> None:
        if not tenant.lined:
            tenant.account.enter(self.clock)
        tenant.count(jobs, units)
        self.lined += jobs

    def _fill(self, tenant_id: TenantId, tenant: Tenant) -> None:
        if self.full.note(tenant_id, tenant):
            for model in tenant.queues:
                if model not in self.apart:
                    self._line_up(tenant_id, model)

    def _line_up(self, tenant_id: TenantId, model: str) -> None:
        tenant = self.own(tenant_id)
        queue = tenant.own(model)
        if tenant_id in self.full:
            queue.key = NOWHERE
            return
        line = self.lines.setdefault(model, [])
        if len(line) > 2 * len(self.tenants) + 64:
            line[:] = sorted(standing(self.tenants, model, line))
        queue.key = tenant.account.time
        self._number += 1
        heapq.heappush(line, (queue.key, self._number, tenant_id))

    def _top(self, model: str) -> Owed | None:
        """Return who has least of those that want a model; its line is put right up to there."""
        line = self.lines[model]
        while line:
            key, number, name = line[0]
            tenant = self.tenants.get(name)
            queue = tenant.queues.get(model) if tenant is not None else None
            if tenant is None or queue is None or queue.key != key:  # it stands here no more
                heapq.heappop(line)
                continue
            time = tenant.account.caught_up(self.clock)
            if time <= key:
                return key, number, name
            tenant = self.own(name)
            tenant.account.time = tenant.own(model).key = time
            self._number += 1
            heapq.heapreplace(line, (time, self._number, name))
        del self.lines[model]
        return None


def _best(tenants: Mapping[TenantId, Tenant], tops: Mapping[str, Owed], costs: Mapping[str, float]) -> Pick:
    least = min(tops.values())
    owed = tenants[least[2]]
    first = owed.first(costs)
    if slack := costs[first[2].line]:
        first = resident(tenants, tops, costs, (least[0], slack)) or first
    return Pick(first, owed.oldest(costs), least[0])


def _leave_apart(apart: dict[str, dict[TenantId, None]], model: str, tenant_id: TenantId) -> None:
    del apart[model][tenant_id]
    if not apart[model]:
        del apart[model]


def _forgettable(tenant: Tenant, clock: float) -> bool:
    return not tenant.queues and not tenant.running and tenant.account.time <= clock
