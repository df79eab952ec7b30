"""Messages of TenantService ⇄ the domain. Every invalid field is named at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from darkroom.ratelimiter.v1 import tenant_service_pb2 as pb
from libs.errors import InvalidRequest, Violation, listed
from libs.ids import KeyId, TenantId
from libs.wire.timestamp import timestamp
from services.ratelimiter.headers import Header
from services.ratelimiter.tenants import names as tenant_names
from services.ratelimiter.tenants.events import TenantEvent
from services.ratelimiter.tenants.tenants import Change, TenantView
from services.ratelimiter.tenants.wallets import Credit
from services.ratelimiter.tiers import fields as tier_fields
from services.ratelimiter.tiers import policy
from services.ratelimiter.tiers.file import TiersFile
from services.ratelimiter.tiers.policy import Limits

_NOTE_CHARS, _ID_CHARS = 200, 64
_MOST_MICROS = 10**15
_POLICY, _STATE = "ratelimit-policy", "ratelimit"


def change_from_pb(message: pb.SetTenantRequest) -> Change:
    """Return what to change. Raises InvalidRequest."""
    problems = _name_problems(message.tenant_id)
    if message.HasField("cap_micros") and message.cap_micros > _MOST_MICROS:
        problems.append(Violation("cap_micros", f"must be at most {_MOST_MICROS}"))
    _refuse(problems)
    return Change(
        TenantId(message.tenant_id),
        message.tier,
        message.verified if message.HasField("verified") else None,
        dict(message.limits),
        KeyId(message.key_id),
        message.cap_micros if message.HasField("cap_micros") else None,
    )


def credit_from_pb(message: pb.CreditTenantRequest) -> Credit:
    """Return a payment. Raises InvalidRequest."""
    problems = _name_problems(message.tenant_id)
    if not 0 < abs(message.micros) <= _MOST_MICROS:
        problems.append(Violation("micros", f"must be from 1 to {_MOST_MICROS}, or as much below 0"))
    if not 0 < len(message.credit_id) <= _ID_CHARS or not message.credit_id.isprintable():
        problems.append(Violation("credit_id", f"must have 1 to {_ID_CHARS} printable characters"))
    if len(message.note) > _NOTE_CHARS or "\0" in message.note:
        problems.append(Violation("note", f"must be text of at most {_NOTE_CHARS} characters"))
    _refuse(problems)
    return Credit(message.credit_id, TenantId(message.tenant_id), message.micros, message.note)


def tenant_to_pb(view: TenantView) -> pb.Tenant:
    """Return a tenant as it travels."""
    message = pb.Tenant(
        id=view.tenant.id,
        tier=view.tenant.tier,
        verified=view.own.verified,
        create_time=timestamp(view.tenant.created_s),
        limits=_texts(view.own.fields),
        key_limits=[pb.KeyLimits(key_id=agreed.key_id, limits=_texts(agreed.fields)) for agreed in view.keys],
        balance_micros=view.wallet.balance_micros,
        held_micros=view.wallet.held_micros,
        spent_micros=view.wallet.spent_micros,
    )
    if view.wallet.cap_micros is not None:
        message.cap_micros = view.wallet.cap_micros
    return message


def limits_to_pb(headers: Sequence[Header], limits: Limits) -> Iterator[pb.LimitState]:
    """Return the limits that headers tell: what callers read is what operators read.

    Of rates the most at once is told in the place of the window's quota: what is left is left of that.
    """
    told, bursts = dict(headers), {"rpm": limits.requests.burst, "cost": limits.units.burst}
    left = dict(_items(told.get(_STATE, "")))
    for name, quota in _items(told.get(_POLICY, "")):
        state = left.get(name, {})
        most = bursts.get(name, float(quota["q"]))
        limit = pb.LimitState(dimension=name, limit=most, remaining=float(state.get("r", most)))
        if "t" in state:
            limit.reset_s = float(state["t"])
        yield limit


def _items(header: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Return the names and parameters of `"cost";q=100;w=60, "daily";q=5`."""
    for item in filter(None, header.split(", ")):
        name, *parameters = item.split(";")
        yield name.strip('"'), dict(parameter.split("=", 1) for parameter in parameters)


def event_to_pb(event: TenantEvent) -> pb.TenantEvent:
    """Return an event as it travels."""
    return pb.TenantEvent(
        id=event.id, tenant_id=event.tenant_id, kind=event.kind, message=event.message, time=timestamp(event.at_s)
    )


def tiers_to_pb(file: TiersFile) -> pb.GetTiersResponse:
    """Return the tiers in force as they travel."""
    tiers = file.tariffs.policy.tiers.items()
    told = [pb.Tier(name=name, limits=_texts(policy.fields_of(limits))) for name, limits in tiers]
    return pb.GetTiersResponse(path=str(file.path), tiers=told, wrong=file.wrong)


def _name_problems(tenant_id: str) -> list[Violation]:
    told = tenant_names.problem(tenant_id)
    return [Violation("tenant_id", told)] if told else []


def _texts(fields: Mapping[str, Any]) -> dict[str, str]:
    return {name: tier_fields.written(value) for name, value in fields.items()}


def _refuse(problems: list[Violation]) -> None:
    if problems:
        raise InvalidRequest(f"Nothing was changed: {listed(problems)}.", violations=problems)
