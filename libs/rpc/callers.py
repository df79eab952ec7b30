"""Who may call what, where callers show certificates. A call that stands nowhere here is nobody's.

The door takes the public API to the gateway and asks the rate limiter who is calling; the gateway and the scheduler
call each other's peers; only the scheduler speaks with the devices; operators reach what the operator token opens.
Everybody with a role may ask for health and reflection; callers at the door have none.
"""

from __future__ import annotations

from collections.abc import Iterable

from libs import roles
from libs.roles import ENVOY, EVERY, GATEWAY, OPERATOR, RATELIMITER, SCHEDULER

CALLERS: dict[str, tuple[str, ...]] = {
    "/grpc.health.v1.Health/": EVERY,
    "/grpc.reflection.": EVERY,
    "/darkroom.v1.": (ENVOY,),
    "/envoy.": (ENVOY,),
    "/darkroom.ratelimiter.v1.": (GATEWAY, SCHEDULER, OPERATOR),
    "/darkroom.ratelimiter.v1.AccountService/": (GATEWAY,),
    "/darkroom.ratelimiter.v1.AdminService/": (OPERATOR,),
    "/darkroom.ratelimiter.v1.IdentityService/": (GATEWAY,),
    "/darkroom.ratelimiter.v1.TenantService/": (OPERATOR,),
    "/darkroom.ratelimiter.v1.UsageService/": (OPERATOR,),
    "/darkroom.ratelimiter.v1.WebhookService/": (GATEWAY,),
    "/darkroom.scheduler.v1.": (GATEWAY, RATELIMITER, SCHEDULER, OPERATOR),
    "/darkroom.scheduler.v1.DeliveryService/": (GATEWAY,),
    "/darkroom.scheduler.v1.AdminService/": (SCHEDULER, OPERATOR),  # a scheduler that stands by passes it on
    "/darkroom.modelserver.v1.": (SCHEDULER,),
}


def may_call(method: str, identities: Iterable[str]) -> bool:
    """Return whether a caller with these identities may call /package.Service/Method; the longest entry decides."""
    entry = max((prefix for prefix in CALLERS if method.startswith(prefix)), key=len, default="")
    allowed = {roles.identity(role) for role in CALLERS.get(entry, ())}
    return not allowed.isdisjoint(identities)
