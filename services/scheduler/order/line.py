"""The line of tenants that want one model: a heap by virtual time.

A tenant's time may have grown since it was put in, so the first is put right before it is believed; an entry whose
time is not its queue's `key` is an old one and dropped.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from libs.ids import TenantId
from services.scheduler.order.tenant import Tenant
from services.scheduler.order.waiting import Entry, rank

Owed = tuple[float, int, TenantId]  # virtual time, a running number, who
Line = list[Owed]


def stands(tenants: Mapping[TenantId, Tenant], model: str, owed: Owed) -> bool:
    """Return whether an entry is the current one of a tenant that wants the model."""
    tenant = tenants.get(owed[2])
    return tenant is not None and model in tenant.queues and tenant.queues[model].key == owed[0]


def standing(tenants: Mapping[TenantId, Tenant], model: str, line: Iterable[Owed]) -> Line:
    """Return the current entries, one of each tenant."""
    return list({owed[2]: owed for owed in line if stands(tenants, model, owed)}.values())


def resident(
    tenants: Mapping[TenantId, Tenant], tops: Mapping[str, Owed], costs: Mapping[str, float], head: tuple[float, float]
) -> Entry | None:
    """Return the job of a model in memory that may go before the head, whose time and units of loading are given.

    It may when its tenant is no further ahead than that, together with what of its own already went before its first;
    of what a tenant has of such models its first goes, in whichever line it stands.
    """
    least, slack = head
    free = {model for model, cost in costs.items() if not cost}
    near = {((time - least) * tenants[name].account.weight, name) for it, (time, _, name) in tops.items() if it in free}
    best: tuple[float, float, int, Entry] | None = None
    for ahead, name in sorted(one for one in near if one[0] <= slack):
        if best is not None and ahead > best[0]:
            break  # nobody behind can be nearer: what went before their first only adds to it
        tenant = tenants[name]
        entry = tenant.first(free)
        if tenant.overtaken and entry is not tenant.first(costs):
            ahead += tenant.overtaken
        found = (ahead, *rank(entry)[1:], entry)
        if ahead <= slack and (best is None or found < best):
            best = found
    return best[-1] if best else None
