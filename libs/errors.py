"""The failures a caller can act on. No transport in here: `libs.rpc.status` maps them to codes.

    DarkroomError
    ├── InvalidRequest        the request can never succeed; every invalid field is named
    ├── NotFound              no such thing for this caller
    ├── Unauthenticated       who is calling could not be established
    ├── PermissionDenied      the caller is known and may not
    ├── PreconditionFailed    it could succeed in another state or for another tier
    ├── LimitExceeded         a limit refused; it frees with time
    ├── Unavailable           a part is down or full; the same call may succeed later
    ├── DeadlinePassed        it ran out of its time
    └── InternalFault         our own fault

Every message answers: what happened, was it charged, what fits now, when to retry.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Violation:
    """One invalid field of a request, in the words of `google.rpc.BadRequest`."""

    field: str
    description: str


def listed(problems: Sequence[Violation]) -> str:
    """Return every invalid field, as a message names them."""
    return "; ".join(f"{problem.field} {problem.description}" for problem in problems)


class DarkroomError(Exception):
    """A failure with a machine-readable reason.

    `reason` is UPPER_SNAKE and stands in the table of reasons; `metadata` holds strings only.
    """

    reason = "INTERNAL"

    def __init__(
        self,
        message: str,
        *,
        reason: str | None = None,
        metadata: Mapping[str, str] | None = None,
        violations: Sequence[Violation] = (),
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason or type(self).reason
        self.metadata = dict(metadata or {})
        self.violations = tuple(violations)
        self.retry_after_s = retry_after_s


class InvalidRequest(DarkroomError):
    """The request can never succeed as it is."""

    reason = "INVALID_REQUEST"


class NotFound(DarkroomError):
    """No such thing for this caller."""

    reason = "NOT_FOUND"


class Unauthenticated(DarkroomError):
    """Who is calling could not be established."""

    reason = "KEY_INVALID"


class PermissionDenied(DarkroomError):
    """The caller is known and may not do this."""

    reason = "SCOPE_MISSING"


class PreconditionFailed(DarkroomError):
    """It could succeed in another state or for another tier."""

    reason = "PRECONDITION_FAILED"


class LimitExceeded(DarkroomError):
    """A limit refused; it frees with time."""

    reason = "RPM_EXHAUSTED"


class Unavailable(DarkroomError):
    """A part is down or full; the same call may succeed later."""

    reason = "UNAVAILABLE"


class DeadlinePassed(DarkroomError):
    """It ran out of its time."""

    reason = "DEADLINE_EXCEEDED"


class InternalFault(DarkroomError):
    """Our own fault, with nothing the caller could do better."""

    reason = "INTERNAL"
