"""A limit's refusal as the caller reads it: what happened, was it charged, what fits now, when to retry."""

from __future__ import annotations

import math
from collections.abc import Sequence

from libs.clients.limiter import Denial
from libs.errors import DarkroomError, LimitExceeded, PreconditionFailed
from services.gateway.creating import signing_up
from services.gateway.creating.cheaper import Option
from services.gateway.creating.drafts import Priced

_WHOSE = {"tenant": "your", "key": "this key's", "address": "your network's"}
_ANONYMOUS = "anonymous"
_NOT_CHARGED = "Nothing was charged."


def denied(
    denial: Denial, priced: Priced, fitting: Sequence[Option], tier: str = "", sign_up: str = ""
) -> DarkroomError:
    """Return the error of a refused reservation; `fitting` are smaller requests that would be taken."""
    match denial.dimension:
        case "tier":
            return _never_fits(denial, priced, fitting)
        case "cost":
            return _too_dear(denial, priced, fitting)
        case "in_flight":
            return _too_many_at_once(denial, priced, fitting)
        case "daily_images" | "daily_units" | "address":
            return _day_is_used(denial, priced, fitting, tier, sign_up)
        case "balance":
            return _no_money(denial, priced)
        case "spend":
            return _cap_is_reached(denial)
        case _:
            return too_many(denial)


def too_many(denial: Denial) -> LimitExceeded:
    """Return the error of a caller whose requests of the minute are used."""
    told = f"All {denial.limit:.0f} requests of {_this(denial, 'minute')} are used. {_NOT_CHARGED} "
    return LimitExceeded(
        told + f"The same request will be taken in {_seconds(denial)}.",
        reason="RPM_EXHAUSTED",
        metadata=_counts(denial),
        retry_after_s=denial.retry_after_s,
    )


def _too_dear(denial: Denial, priced: Priced, fitting: Sequence[Option]) -> LimitExceeded:
    told = f"{_asked(priced)} needs {priced.units:.0f} units and {denial.available:.0f} are left now. "
    return LimitExceeded(
        f"{told}{_smaller(fitting)}the same request fits in {_seconds(denial)}. {_NOT_CHARGED}",
        reason="GPU_COST_EXHAUSTED",
        metadata={
            "dimension": denial.dimension,
            "account": denial.account,
            "estimated_units": f"{priced.units:.1f}",
            "available_units": f"{denial.available:.1f}",
            "fits_now": str(fitting[0]) if fitting else "",
        },
        retry_after_s=denial.retry_after_s,
    )


def _too_many_at_once(denial: Denial, priced: Priced, fitting: Sequence[Option]) -> LimitExceeded:
    used, whose = denial.limit - denial.available, _WHOSE.get(denial.account, "your")
    told = f"{used:.0f} of {whose} {denial.limit:.0f} pictures in flight are waiting or running"
    more = f", and this request has {priced.spec.images}" if priced.spec.images > 1 else ""
    return LimitExceeded(
        f"{told}{more}; {_smaller(fitting)}the same request fits as soon as enough of them have ended, "
        f"perhaps in {_seconds(denial)}. {_NOT_CHARGED}",
        reason="CONCURRENCY_EXHAUSTED",
        metadata=_counts(denial) | {"fits_now": str(fitting[0]) if fitting else ""},
        retry_after_s=denial.retry_after_s,
    )


def _day_is_used(denial: Denial, priced: Priced, fitting: Sequence[Option], tier: str, sign_up: str) -> LimitExceeded:
    by_units = "units" in (denial.about or denial.dimension)
    what = "units" if by_units else "free images" if tier == _ANONYMOUS else "images"
    asked = f"{priced.units:.0f} units" if by_units else _pictures(priced.spec.images)
    if denial.available >= 1:
        left = f"{denial.available:.0f} of today's {denial.limit:.0f} {what} are left and this request needs {asked}."
    elif denial.account == "address":
        left = f"Your network has used today's {denial.limit:.0f} {what}."
    else:
        left = f"You have used today's {denial.limit:.0f} {what}."
    smaller = f" {fitting[0]} would be taken now." if fitting else ""
    return LimitExceeded(
        f"{left}{smaller} They reset at 00:00 UTC (in {_hours(denial.retry_after_s)}).{_advice(tier, sign_up)} {_NOT_CHARGED}",
        reason="DAILY_QUOTA_EXHAUSTED",
        metadata=_counts(denial) | {"fits_now": str(fitting[0]) if fitting else ""},
        retry_after_s=denial.retry_after_s,
    )


def _no_money(denial: Denial, priced: Priced) -> PreconditionFailed:
    told = f"{_asked(priced)} costs up to {denial.limit:.2f}, and {denial.available:.2f} of your balance are free. "
    return PreconditionFailed(
        f"{told}{_NOT_CHARGED} Top the balance up, or wait for running jobs to end: they hold some of it.",
        reason="BALANCE_EXHAUSTED",
        metadata={
            "dimension": denial.dimension,
            "price": f"{denial.limit:.6f}",
            "available": f"{denial.available:.6f}",
        },
    )


def _cap_is_reached(denial: Denial) -> LimitExceeded:
    days = math.ceil(denial.retry_after_s / 86_400)
    told = (
        f"Of your cap of {denial.limit:.2f} a month {denial.available:.2f} are left, less than this request may cost. "
    )
    return LimitExceeded(
        f"{told}{_NOT_CHARGED} It begins anew on the first of the month, in {days} days; a higher cap helps at once.",
        reason="SPEND_CAP_REACHED",
        metadata={"dimension": denial.dimension, "cap": f"{denial.limit:.6f}", "available": f"{denial.available:.6f}"},
        retry_after_s=denial.retry_after_s,
    )


def _never_fits(denial: Denial, priced: Priced, fitting: Sequence[Option]) -> PreconditionFailed:
    smaller = f"{fitting[0]} would fit. " if fitting else "No smaller form of it was found that would fit. "
    spec, limit = priced.spec, f"{denial.limit:.0f}"
    told = {
        "pixels": f"has {spec.width * spec.height} pixels, more than the {limit} that your tier draws.",
        "steps": f"has more than the {limit} steps that your tier draws.",
        "in_flight": f"has more than the {limit} pictures that your tier has in flight at once.",
        "daily_images": f"has more than the {limit} pictures that your tier has in a day.",
        "daily_units": f"needs {priced.units:.0f} units, more than the {limit} that your tier has in a day.",
    }.get(
        denial.about, f"needs {priced.units:.0f} units as measured now, more than the {limit} that your tier ever has."
    )
    return PreconditionFailed(
        f"{_asked(priced)} {told} {smaller}{_NOT_CHARGED[:-1]}; waiting does not help.",
        reason="REQUEST_EXCEEDS_TIER_BUDGET",
        metadata={
            "dimension": denial.dimension,
            "about": denial.about,
            "estimated_units": f"{priced.units:.1f}",
            ("max_units" if denial.about in ("", "units") else "limit"): f"{denial.limit:.1f}",
            "suggestion": str(fitting[0]) if fitting else "",
        },
    )


def _counts(denial: Denial) -> dict[str, str]:
    return {
        "dimension": denial.dimension,
        "account": denial.account,
        "limit": f"{denial.limit:.0f}",
        "used": f"{max(0.0, denial.limit - denial.available):.0f}",
        "reset_ms": f"{denial.retry_after_s * 1000:.0f}",
    }


def _asked(priced: Priced) -> str:
    spec = priced.spec
    pictures = f" of {spec.images} pictures" if spec.images > 1 else ""
    return f"This {spec.width}x{spec.height}, {spec.steps}-step request{pictures}"


def _smaller(fitting: Sequence[Option]) -> str:
    return f"{fitting[0]} would be taken now; " if fitting else ""


def _advice(tier: str, sign_up: str) -> str:
    return f" {signing_up.advice(sign_up)}" if tier == _ANONYMOUS else ""


def _pictures(count: int) -> str:
    return "1 image" if count == 1 else f"{count} images"


def _this(denial: Denial, period: str) -> str:
    return f"this key's {period}" if denial.account == "key" else f"this {period}"


def _seconds(denial: Denial) -> str:
    return f"{max(1, math.ceil(denial.retry_after_s))} s"


def _hours(seconds: float) -> str:
    minutes = math.ceil(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"
