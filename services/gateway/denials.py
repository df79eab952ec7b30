"""A limit's refusal as the caller reads it: what happened, was it charged, what fits now, when to retry."""

from __future__ import annotations

import math
from collections.abc import Sequence

from libs.clients.limiter import Denial
from libs.errors import DarkroomError, LimitExceeded, PreconditionFailed
from services.gateway.cheaper import Option
from services.gateway.drafts import Priced


def denied(denial: Denial, priced: Priced, fitting: Sequence[Option]) -> DarkroomError:
    """Return the error of a refused reservation; `fitting` are smaller requests that would be taken."""
    if denial.dimension == "tier":
        return _never_fits(denial, priced, fitting)
    if denial.dimension == "cost":
        return _too_dear(denial, priced, fitting)
    return too_many(denial)


def too_many(denial: Denial) -> LimitExceeded:
    """Return the error of a caller whose requests of the minute are used."""
    told = f"All {denial.limit:.0f} requests of this minute are used. Nothing was charged. "
    return LimitExceeded(
        told + f"The same request will be taken in {_seconds(denial)}.",
        reason="RPM_EXHAUSTED",
        metadata={
            "dimension": denial.dimension,
            "limit": f"{denial.limit:.0f}",
            "used": f"{max(0.0, denial.limit - denial.available):.0f}",
            "reset_ms": f"{denial.retry_after_s * 1000:.0f}",
        },
        retry_after_s=denial.retry_after_s,
    )


def _too_dear(denial: Denial, priced: Priced, fitting: Sequence[Option]) -> LimitExceeded:
    now = f"{fitting[0]} would be taken now; " if fitting else ""
    told = f"{_asked(priced)} needs {priced.units:.0f} units and {denial.available:.0f} are left now. "
    return LimitExceeded(
        f"{told}{now}the same request fits in {_seconds(denial)}. Nothing was charged.",
        reason="GPU_COST_EXHAUSTED",
        metadata={
            "dimension": denial.dimension,
            "estimated_units": f"{priced.units:.1f}",
            "available_units": f"{denial.available:.1f}",
            "fits_now": str(fitting[0]) if fitting else "",
        },
        retry_after_s=denial.retry_after_s,
    )


def _never_fits(denial: Denial, priced: Priced, fitting: Sequence[Option]) -> PreconditionFailed:
    smaller = f"{fitting[0]} would fit. " if fitting else ""
    told = (
        f"{_asked(priced)} needs {priced.units:.0f} units, more than the {denial.limit:.0f} that your tier ever has. "
    )
    return PreconditionFailed(
        f"{told}{smaller}Nothing was charged; waiting does not help.",
        reason="REQUEST_EXCEEDS_TIER_BUDGET",
        metadata={
            "dimension": denial.dimension,
            "estimated_units": f"{priced.units:.1f}",
            "max_units": f"{denial.limit:.1f}",
            "suggestion": str(fitting[0]) if fitting else "",
        },
    )


def _asked(priced: Priced) -> str:
    spec = priced.spec
    pictures = f" of {spec.images} pictures" if spec.images > 1 else ""
    return f"This {spec.width}x{spec.height}, {spec.steps}-step request{pictures}"


def _seconds(denial: Denial) -> str:
    return f"{max(1, math.ceil(denial.retry_after_s))} s"
