"""Messages of the wire ⇄ the domain. Every invalid field is named at once."""

from __future__ import annotations

import math
from collections.abc import Iterator

from darkroom.ratelimiter.v1 import limiter_service_pb2 as pb
from libs.errors import InvalidRequest, Violation
from libs.ids import JobId, KeyId, TenantId
from services.ratelimiter.limiter import Decision
from services.ratelimiter.reservation import Hold
from services.ratelimiter.usage import Settlement

OUTCOMES = ("succeeded", "failed", "cancelled", "expired")
_ID_CHARS, _NAME_CHARS = 64, 200
_MOST_IMAGES = 1_000_000


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
