"""Messages of the wire ⇄ the domain. Every invalid field is named at once."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import TypeAlias

from darkroom.ratelimiter.v1 import limiter_service_pb2 as pb
from libs.errors import InvalidRequest, Violation, listed
from libs.ids import JobId, KeyId, TenantId
from services.ratelimiter.balances.causes import Cause
from services.ratelimiter.balances.reservation import Hold
from services.ratelimiter.limiter import Decision
from services.ratelimiter.usage.book import OUTCOMES, Settlement

_CAUSES = tuple(cause.value for cause in Cause)
# Of a scheduler that names no cause yet, and of its own outcomes.
_CAUSE_OF = {"succeeded": "succeeded", "failed": "platform", "cancelled": "cancelled", "expired": "expired"}
_ID_CHARS, _NAME_CHARS = 64, 200
_MOST_RENEWED = 500
_MOST_IMAGES = 1_000_000

_Counted: TypeAlias = pb.ReserveRequest | pb.ConfirmRequest | pb.SettleRequest | pb.PeekRequest
_OfCaller: TypeAlias = _Counted | pb.OpenReservation


def hold_from_pb(message: pb.ReserveRequest | pb.ConfirmRequest) -> Hold:
    """Return what is reserved. Raises InvalidRequest."""
    amounts = ("units",) if isinstance(message, pb.ReserveRequest) else ("units", "reserved_s")
    ids = _id_problems(message.reservation_id, message.tenant_id)
    _refuse([*ids, *_amount_problems(message, *amounts), *_caller_problems(message)])
    return _hold(message)


def settlement_from_pb(message: pb.SettleRequest) -> Settlement:
    """Return what a job came to cost. Raises InvalidRequest."""
    amounts = ("reserved_units", "actual_units", "charged_units", "gpu_ms", "reserved_s")
    ids = _id_problems(message.reservation_id, message.tenant_id)
    problems = [*ids, *_amount_problems(message, *amounts), *_caller_problems(message)]
    if message.outcome not in OUTCOMES:
        problems.append(Violation("outcome", "must be one of " + ", ".join(OUTCOMES)))
    if message.cause and message.cause not in _CAUSES:
        problems.append(Violation("cause", "must be one of " + ", ".join(_CAUSES)))
    _refuse(problems)
    return Settlement(
        Hold(
            JobId(message.reservation_id),
            TenantId(message.tenant_id),
            message.tier,
            message.reserved_units,
            message.reserved_images or message.images,
            KeyId(message.key_id),
            message.address,
        ),
        KeyId(message.key_id),
        message.model_version,
        message.outcome,
        actual_units=message.actual_units,
        charged_units=message.charged_units,
        gpu_ms=message.gpu_ms,
        images=message.images,
        cause=Cause(message.cause or _CAUSE_OF[message.outcome]),
    )


def release_from_pb(message: pb.ReleaseRequest) -> tuple[TenantId, JobId]:
    """Return whose reservation to give back. Raises InvalidRequest."""
    _refuse([*_id_problems(message.reservation_id, message.tenant_id)])
    return TenantId(message.tenant_id), JobId(message.reservation_id)


def peek_from_pb(message: pb.PeekRequest) -> Hold:
    """Return what might be reserved. Raises InvalidRequest."""
    problems = [*_text_problems("tenant_id", message.tenant_id, _NAME_CHARS), *_amount_problems(message, "units")]
    _refuse([*problems, *_caller_problems(message)])
    return _hold(message)


def holds_from_pb(message: pb.RenewRequest) -> list[Hold]:
    """Return the reservations of open jobs. Raises InvalidRequest."""
    problems: list[Violation] = []
    if len(message.reservations) > _MOST_RENEWED:
        problems.append(Violation("reservations", f"must be at most {_MOST_RENEWED}"))
    for each in message.reservations:
        problems += [*_id_problems(each.reservation_id, each.tenant_id), *_caller_problems(each)]
    _refuse(problems[:1])
    return [_hold(each) for each in message.reservations]


def decision_to_pb(decision: Decision) -> pb.ReserveResponse:
    """Return a decision as it travels."""
    room, limits = decision.room, decision.limits
    answer = pb.ReserveResponse(
        available_units=room.units,
        available_images=room.images,
        max_pixels=room.pixels,
        max_steps=room.steps,
        running_images=limits.running_images,
        weight=limits.weight,
    )
    answer.headers.extend(pb.Header(name=name, value=value) for name, value in decision.headers)
    if decision.denial is not None:
        denial = decision.denial
        answer.denial.dimension = denial.dimension.value
        answer.denial.limit = denial.limit
        answer.denial.available = denial.available
        answer.denial.retry_after_s = denial.retry_after_s
        answer.denial.account = denial.account.value
        answer.denial.about = denial.about
    return answer


def _hold(message: pb.ReserveRequest | pb.ConfirmRequest | pb.PeekRequest | pb.OpenReservation) -> Hold:
    caller = Hold(
        JobId("" if isinstance(message, pb.PeekRequest) else message.reservation_id),
        TenantId(message.tenant_id),
        message.tier,
        units=0.0,
        images=0,
        key_id=KeyId(message.key_id),
        address=message.address,
    )
    if isinstance(message, pb.OpenReservation):
        return caller
    return replace(caller, units=message.units, images=message.images, pixels=message.pixels, steps=message.steps)


def _id_problems(reservation_id: str, tenant_id: str) -> Iterator[Violation]:
    yield from _text_problems("reservation_id", reservation_id, _ID_CHARS)
    yield from _text_problems("tenant_id", tenant_id, _NAME_CHARS)


def _text_problems(field: str, value: str, most_chars: int) -> Iterator[Violation]:
    if not 0 < len(value) <= most_chars or not value.isprintable():
        yield Violation(field, f"must have 1 to {most_chars} printable characters")


def _caller_problems(message: _OfCaller) -> Iterator[Violation]:
    for field, value in (("key_id", message.key_id), ("address", message.address)):
        if len(value) > _ID_CHARS or not value.isprintable():
            yield Violation(field, f"must have at most {_ID_CHARS} printable characters")


def _amount_problems(message: _Counted, *fields: str) -> Iterator[Violation]:
    for field in fields:
        if not _is_amount(getattr(message, field)):
            yield Violation(field, "must be a number of 0 or more")
    if message.images > _MOST_IMAGES:
        yield Violation("images", f"must be at most {_MOST_IMAGES}")


def _is_amount(value: float) -> bool:
    return math.isfinite(value) and value >= 0


def _refuse(problems: list[Violation]) -> None:
    if problems:
        raise InvalidRequest(f"The call to the rate limiter is invalid: {listed(problems)}.", violations=problems)
