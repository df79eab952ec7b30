"""Messages of the wire ⇄ the domain. Every invalid field is named at once."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

from google.protobuf.timestamp_pb2 import Timestamp

from darkroom.ratelimiter.v1 import admin_service_pb2 as admin_pb
from darkroom.ratelimiter.v1 import limiter_service_pb2 as pb
from libs.errors import InvalidRequest, Violation
from libs.ids import JobId, KeyId, TenantId
from services.ratelimiter.accounts import Key
from services.ratelimiter.limiter import Decision
from services.ratelimiter.reservation import Hold
from services.ratelimiter.usage import Settlement

OUTCOMES = ("succeeded", "failed", "cancelled", "expired")
_ID_CHARS, _NAME_CHARS = 64, 200
_MOST_IMAGES = 1_000_000
# A tenant travels as a header: others are refused there, and spaces around it are cut, which makes it another tenant.
_HEADER_SAFE = re.compile(r"[!-~]*")


def hold_from_pb(message: pb.ReserveRequest | pb.ConfirmRequest) -> Hold:
    """Return what is reserved. Raises InvalidRequest."""
    _refuse([*_id_problems(message.reservation_id, message.tenant_id), *_amount_problems(message, "units")])
    return _hold(message, message.units)


def settlement_from_pb(message: pb.SettleRequest) -> Settlement:
    """Return what a job came to cost. Raises InvalidRequest."""
    amounts = ("reserved_units", "actual_units", "charged_units", "gpu_ms")
    problems = [*_id_problems(message.reservation_id, message.tenant_id), *_amount_problems(message, *amounts)]
    if len(message.key_id) > _ID_CHARS:
        problems.append(Violation("key_id", f"must have at most {_ID_CHARS} characters"))
    if message.outcome not in OUTCOMES:
        problems.append(Violation("outcome", "must be one of " + ", ".join(OUTCOMES)))
    _refuse(problems)
    return Settlement(
        _hold(message, message.reserved_units),
        KeyId(message.key_id),
        message.model_version,
        message.outcome,
        actual_units=message.actual_units,
        charged_units=message.charged_units,
        gpu_ms=message.gpu_ms,
        images=message.images,
    )


def release_from_pb(message: pb.ReleaseRequest) -> tuple[TenantId, JobId]:
    """Return whose reservation to give back. Raises InvalidRequest."""
    _refuse([*_id_problems(message.reservation_id, message.tenant_id)])
    return TenantId(message.tenant_id), JobId(message.reservation_id)


def peek_from_pb(message: pb.PeekRequest) -> tuple[TenantId, str, float]:
    """Return tenant, tier and units. Raises InvalidRequest."""
    problems = [*_text_problems("tenant_id", message.tenant_id, _NAME_CHARS)]
    if not _is_amount(message.units):
        problems.append(Violation("units", "must be a number of 0 or more"))
    _refuse(problems)
    return TenantId(message.tenant_id), message.tier, message.units


def new_key_from_pb(message: admin_pb.CreateKeyRequest) -> tuple[TenantId, str, str]:
    """Return tenant, tier and name. Raises InvalidRequest."""
    problems = [*_text_problems("tenant_id", message.tenant_id, _NAME_CHARS)]
    if message.tenant_id.startswith("anon:"):
        problems.append(Violation("tenant_id", "must not begin with anon: – those are callers without a key"))
    if not _HEADER_SAFE.fullmatch(message.tenant_id):
        problems.append(Violation("tenant_id", "must be ASCII letters, digits and signs without spaces"))
    if len(message.name) > _NAME_CHARS or "\0" in message.name:
        problems.append(Violation("name", f"must be text of at most {_NAME_CHARS} characters"))
    _refuse(problems)
    return TenantId(message.tenant_id), message.tier, message.name


def decision_to_pb(decision: Decision) -> pb.ReserveResponse:
    """Return a decision as it travels."""
    answer = pb.ReserveResponse(available_units=decision.available_units)
    answer.headers.extend(pb.Header(name=name, value=value) for name, value in decision.headers)
    if decision.denial is not None:
        denial = decision.denial
        answer.denial.dimension = denial.dimension.value
        answer.denial.limit = denial.limit
        answer.denial.available = denial.available
        answer.denial.retry_after_s = denial.retry_after_s
    return answer


def key_to_pb(key: Key) -> admin_pb.Key:
    """Return a key as it travels."""
    message = admin_pb.Key(id=key.id, tenant_id=key.tenant_id, tier=key.tier, prefix=key.prefix, name=key.name)
    message.create_time.CopyFrom(_time(key.created_s))
    if key.revoked_s is not None:
        message.revoke_time.CopyFrom(_time(key.revoked_s))
    if key.last_used_s is not None:
        message.last_used_time.CopyFrom(_time(key.last_used_s))
    return message


def _hold(message: pb.ReserveRequest | pb.ConfirmRequest | pb.SettleRequest, units: float) -> Hold:
    return Hold(JobId(message.reservation_id), TenantId(message.tenant_id), message.tier, units, message.images)


def _id_problems(reservation_id: str, tenant_id: str) -> Iterator[Violation]:
    yield from _text_problems("reservation_id", reservation_id, _ID_CHARS)
    yield from _text_problems("tenant_id", tenant_id, _NAME_CHARS)


def _text_problems(field: str, value: str, most_chars: int) -> Iterator[Violation]:
    if not 0 < len(value) <= most_chars or not value.isprintable():
        yield Violation(field, f"must have 1 to {most_chars} printable characters")


def _amount_problems(
    message: pb.ReserveRequest | pb.ConfirmRequest | pb.SettleRequest, *fields: str
) -> Iterator[Violation]:
    for field in fields:
        if not _is_amount(getattr(message, field)):
            yield Violation(field, "must be a number of 0 or more")
    if message.images > _MOST_IMAGES:
        yield Violation("images", f"must be at most {_MOST_IMAGES}")


def _is_amount(value: float) -> bool:
    return math.isfinite(value) and value >= 0


def _refuse(problems: list[Violation]) -> None:
    if problems:
        told = "; ".join(f"{problem.field} {problem.description}" for problem in problems)
        raise InvalidRequest(f"The call to the rate limiter is invalid: {told}.", violations=problems)


def _time(seconds: float) -> Timestamp:
    stamp = Timestamp()
    stamp.FromMilliseconds(round(seconds * 1000))
    return stamp
