"""Who is calling: set by the rate limiter's check at the door, trusted because the mesh token came with it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

import grpc

from libs import scopes
from libs.errors import Unauthenticated
from libs.ids import KeyId, TenantId
from libs.scopes import Scopes

TENANT_KEY, TIER_KEY, KEY_ID_KEY = "x-darkroom-tenant", "x-darkroom-tier", "x-darkroom-key-id"
SCOPES_KEY, ADDRESS_KEY, ABUSE_KEY = "x-darkroom-scopes", "x-darkroom-address", "x-darkroom-abuse"
SIGN_UP_KEY, ENDS_KEY = "x-darkroom-sign-up", "x-darkroom-ends"

Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]


@dataclass(frozen=True, slots=True)
class Caller:
    """An authenticated caller; `key_id` is empty for anonymous ones, and says who of a tenant for tokens too.

    `address` is what counts as the address of an anonymous caller, `abuse` says from 0 to 100 how much its requests
    look like a machine's; `sign_up` is `on` or `invite` for one who could make an account here.
    """

    tenant_id: TenantId
    tier: str
    key_id: KeyId = KeyId("")
    scopes: Scopes = scopes.USUAL
    address: str = ""
    abuse: int = 0
    sign_up: str = ""
    ends_s: float | None = None
    """When the key or token of the call ends by itself, in Unix seconds; None for never."""


def headers_of(context: Context) -> dict[str, str]:
    """Return the headers of a call; of one that is given twice, the last."""
    pairs: Iterable[Any] = context.invocation_metadata() or ()
    return {name: value for name, value in pairs if isinstance(value, str)}


def caller_of(context: Context) -> Caller:
    """Return who is calling; raises Unauthenticated when the door did not say."""
    given = headers_of(context)
    tenant, tier = given.get(TENANT_KEY), given.get(TIER_KEY)
    if not tenant or not tier:
        raise Unauthenticated("Who is calling is not known here: call Envoy's address. Nothing was charged.")
    allowed, _ = scopes.parse(given.get(SCOPES_KEY, "").split())  # what the door did not say is not allowed
    abuse = given.get(ABUSE_KEY, "")
    return Caller(
        TenantId(tenant),
        tier,
        KeyId(given.get(KEY_ID_KEY, "")),
        allowed,
        address=given.get(ADDRESS_KEY, ""),
        abuse=int(abuse) if abuse.isdecimal() else 0,
        sign_up=given.get(SIGN_UP_KEY, ""),
        ends_s=float(given[ENDS_KEY]) if ENDS_KEY in given else None,
    )


def owner_of(context: Context) -> Caller:
    """Return who is calling with a key; raises Unauthenticated for anonymous callers.

    They share a tenant with everybody behind their address, and must not see each other's prompts in a list.
    """
    caller = caller_of(context)
    if not caller.key_id:
        told = "Listing jobs needs an API key. A job made without one is read by its id, for as long as you keep that."
        raise Unauthenticated(told, reason="KEY_REQUIRED")
    return caller
