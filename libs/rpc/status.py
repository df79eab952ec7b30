"""Domain errors ⇄ `google.rpc.Status`: the one table, both directions.

Every status carries exactly one `ErrorInfo{reason, domain: "darkroom", metadata}`, plus RetryInfo, QuotaFailure
and BadRequest where they apply.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator
from contextlib import contextmanager

import grpc
from google.protobuf import any_pb2
from google.protobuf.message import DecodeError, Message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from libs import errors

DOMAIN = "darkroom"

CODES: dict[type[errors.DarkroomError], int] = {
    errors.DarkroomError: code_pb2.UNKNOWN,
    errors.InvalidRequest: code_pb2.INVALID_ARGUMENT,
    errors.NotFound: code_pb2.NOT_FOUND,
    errors.Unauthenticated: code_pb2.UNAUTHENTICATED,
    errors.PermissionDenied: code_pb2.PERMISSION_DENIED,
    errors.PreconditionFailed: code_pb2.FAILED_PRECONDITION,
    errors.LimitExceeded: code_pb2.RESOURCE_EXHAUSTED,
    errors.Unavailable: code_pb2.UNAVAILABLE,
    errors.DeadlinePassed: code_pb2.DEADLINE_EXCEEDED,
    errors.InternalFault: code_pb2.INTERNAL,
}

REASONS: dict[str, type[errors.DarkroomError]] = {
    "INVALID_REQUEST": errors.InvalidRequest,
    "INVALID_DIMENSIONS": errors.InvalidRequest,
    "UNKNOWN_FIELD": errors.InvalidRequest,
    "MALFORMED_JSON": errors.InvalidRequest,
    "PICTURE_UNREADABLE": errors.InvalidRequest,
    "PICTURE_TOO_LARGE": errors.InvalidRequest,
    "REQUEST_TOO_LARGE": errors.InvalidRequest,
    "PAGE_TOKEN_INVALID": errors.InvalidRequest,
    "SAFETY_PROMPT_BLOCKED": errors.InvalidRequest,
    "SAFETY_OUTPUT_BLOCKED": errors.InvalidRequest,
    "NOT_FOUND": errors.NotFound,
    "JOB_NOT_FOUND": errors.NotFound,
    "IMAGE_NOT_FOUND": errors.NotFound,
    "UPLOAD_NOT_FOUND": errors.NotFound,
    "ATTEMPT_UNKNOWN": errors.NotFound,
    "LINK_INVALID": errors.NotFound,
    "MODEL_NOT_FOUND": errors.NotFound,
    "KEY_NOT_FOUND": errors.NotFound,
    "TENANT_NOT_FOUND": errors.NotFound,
    "WEBHOOK_NOT_FOUND": errors.NotFound,
    "KEY_INVALID": errors.Unauthenticated,
    "KEY_REQUIRED": errors.Unauthenticated,
    "KEY_REVOKED": errors.Unauthenticated,
    "KEY_EXPIRED": errors.Unauthenticated,
    "KEY_IN_URL": errors.Unauthenticated,
    "TOKEN_INVALID": errors.Unauthenticated,
    "TOKEN_EXPIRED": errors.Unauthenticated,
    "MESH_TOKEN_INVALID": errors.Unauthenticated,
    "SCOPE_MISSING": errors.PermissionDenied,
    "TENANT_NOT_VERIFIED": errors.PermissionDenied,
    "SIGN_UP_OFF": errors.PermissionDenied,
    "INVITE_INVALID": errors.PermissionDenied,
    "WEBHOOK_KEY_REQUIRED": errors.PermissionDenied,
    "OPERATOR_TOKEN_INVALID": errors.PermissionDenied,
    "CERTIFICATE_ROLE": errors.PermissionDenied,
    "PRECONDITION_FAILED": errors.PreconditionFailed,
    "VERSION_RETIRED": errors.PreconditionFailed,
    "UPLOAD_EXPIRED": errors.PreconditionFailed,
    "MODEL_UNUSABLE": errors.PreconditionFailed,
    "REQUEST_EXCEEDS_TIER_BUDGET": errors.PreconditionFailed,
    "BALANCE_EXHAUSTED": errors.PreconditionFailed,
    "IDEMPOTENCY_KEY_REUSED": errors.PreconditionFailed,
    "EPOCH_STALE": errors.PreconditionFailed,
    "RPM_EXHAUSTED": errors.LimitExceeded,
    "SIGN_UPS_EXHAUSTED": errors.LimitExceeded,
    "GPU_COST_EXHAUSTED": errors.LimitExceeded,
    "ABNORMAL_USAGE": errors.LimitExceeded,
    "CONCURRENCY_EXHAUSTED": errors.LimitExceeded,
    "DAILY_QUOTA_EXHAUSTED": errors.LimitExceeded,
    "SPEND_CAP_REACHED": errors.LimitExceeded,
    "UNAVAILABLE": errors.Unavailable,
    "QUEUE_FULL": errors.Unavailable,
    "NO_CAPACITY": errors.Unavailable,
    "MODEL_LOADING": errors.Unavailable,
    "WORKER_BUSY": errors.Unavailable,
    "WORKER_LOST": errors.Unavailable,
    "DRAINING": errors.Unavailable,
    "LIMITER_DEGRADED": errors.Unavailable,
    "DEADLINE_EXCEEDED": errors.DeadlinePassed,
    "DEADLINE_BEFORE_START": errors.DeadlinePassed,
    "GENERATION_TIMEOUT": errors.DeadlinePassed,
    "GPU_OUT_OF_MEMORY": errors.InternalFault,
    "GENERATION_FAILED": errors.InternalFault,
    "INTERNAL": errors.InternalFault,
}


def to_status(error: errors.DarkroomError) -> status_pb2.Status:
    """Return the status of a domain error."""
    details: list[Message] = [error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=error.metadata)]
    if error.retry_after_s is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromMilliseconds(math.ceil(error.retry_after_s * 1000))
        details.append(retry)
    if isinstance(error, errors.LimitExceeded):
        quota = error_details_pb2.QuotaFailure()
        quota.violations.add(subject=error.metadata.get("dimension", ""), description=error.message)
        details.append(quota)
    if error.violations:
        bad = error_details_pb2.BadRequest()
        for violation in error.violations:
            bad.field_violations.add(field=violation.field, description=violation.description)
        details.append(bad)
    return make_status(_code(error), error.message, details)


def make_status(code: int, message: str, details: list[Message]) -> status_pb2.Status:
    """Return a status with packed details."""
    status = status_pb2.Status(code=code, message=message)
    for detail in details:
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)
    return status


def from_status(status: status_pb2.Status) -> errors.DarkroomError:
    """Return the domain error of a status; one without an ErrorInfo is classed by its code."""
    info, retry_after_s = error_details_pb2.ErrorInfo(), None
    violations: list[errors.Violation] = []
    for packed in status.details:
        retry, bad = error_details_pb2.RetryInfo(), error_details_pb2.BadRequest()
        packed.Unpack(info)
        if packed.Unpack(retry):
            retry_after_s = retry.retry_delay.ToMilliseconds() / 1000
        if packed.Unpack(bad):
            violations = [errors.Violation(v.field, v.description) for v in bad.field_violations]
    kind = REASONS.get(info.reason) or _kind(status.code)
    return kind(
        status.message,
        reason=info.reason or None,
        metadata=dict(info.metadata),
        violations=violations,
        retry_after_s=retry_after_s,
    )


def from_rpc_error(error: grpc.aio.AioRpcError, peer: str) -> errors.DarkroomError:
    """Return the domain error of a failed call; a peer that cannot be reached is Unavailable."""
    status = _rich(error)
    if status is not None:
        return from_status(status)
    code = error.code()
    if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED):
        told = f"The {peer} did not answer. Nothing was charged; the same request may succeed in a moment."
        return errors.Unavailable(told, metadata={"part": peer}, retry_after_s=1.0)
    kind = _kind(code.value[0])
    return kind(error.details() or code.name)


@contextmanager
def translated(peer: str) -> Iterator[None]:
    """Turn the failure of a call inside the block into its domain error.

    A channel that is closed under a call ends it as if its caller had been cancelled: to the caller its peer went away.
    """
    try:
        yield
    except grpc.aio.AioRpcError as error:
        raise from_rpc_error(error, peer) from error
    except asyncio.CancelledError as error:
        if _is_cancelled():
            raise
        raise _cut_off(peer) from error
    except grpc.aio.UsageError as error:  # it was closed before
        raise _cut_off(peer) from error


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


def _cut_off(peer: str) -> errors.Unavailable:
    told = f"The connection to the {peer} was closed."
    return errors.Unavailable(told, metadata={"part": peer}, retry_after_s=1.0)


def _rich(error: grpc.aio.AioRpcError) -> status_pb2.Status | None:
    try:
        return rpc_status.from_call(error)
    except (ValueError, DecodeError):  # details that are not ours, or not of this answer: the code still tells
        return None


def _code(error: errors.DarkroomError) -> int:
    return next(CODES[kind] for kind in type(error).__mro__ if kind in CODES)


def _kind(code: int) -> type[errors.DarkroomError]:
    return next((kind for kind, known in CODES.items() if known == code), errors.InternalFault)
