"""What an ended job is charged, by whose fault it ended. Pure (design/5-limits, Settle).

succeeded                measured units, at most 1.5 times the estimate: what lies above was our mis-estimate
cancelled while running  measured units so far, under the same cap
blocked by the safety    the same: nothing for a prompt that was refused, the drawing for pictures that were withheld
drawn by a fallback      the same, but never above the estimate, which was that of the model asked for
failed, some pictures    the share of the last attempt that the finished pictures are of all
everything else          nothing: it never started, or the fault was ours
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from libs.ids import JobId
from services.scheduler.job import Change, Job, OutboxMessage

CAP = 1.5

OUTCOMES: Mapping[Change, str] = MappingProxyType(
    {
        Change.SUCCEED: "succeeded",
        Change.FAIL: "failed",
        Change.CANCEL: "cancelled",
        Change.EXPIRE: "expired",
        Change.REUSE: "succeeded",
    }
)


# Why a job is over, in the limiter's words; what follows of each is there (services/ratelimiter/balances/causes.py).
SUCCEEDED, CACHED, JOINED, PLATFORM, PARTLY = "succeeded", "cached", "joined", "platform", "partly"
WITHDRAWN, CANCELLED, EXPIRED = "withdrawn", "cancelled", "expired"
BLOCKED_CAUSES: Mapping[str, str] = MappingProxyType(  # by the reason: the fault lies with what was asked for
    {"SAFETY_PROMPT_BLOCKED": "prompt_blocked", "SAFETY_OUTPUT_BLOCKED": "output_blocked"}
)


@dataclass(frozen=True, slots=True)
class Charge:
    """Units measured and charged; `reason` says why they differ, in words."""

    actual_units: float
    charged_units: float
    reason: str = ""


def charge(
    change: Change, estimated_units: float, units: float, *, reason: str = "", most: float = CAP, finished: float = 0.0
) -> Charge:
    """Return the charge of a job that ends by `change` after it was measured to take so many units.

    `reason` says why it failed, if it did, `finished` what share of its pictures it has all the same; `most` is the cap
    in estimates.
    """
    actual, cap = round(units, 1), round(most * estimated_units, 1)
    if change not in (Change.SUCCEED, Change.CANCEL) and reason not in BLOCKED_CAUSES:
        if finished and change is Change.FAIL:
            return Charge(actual, min(cap, round(finished * actual, 1)), "only its finished pictures are charged")
        return Charge(actual, 0.0, "it never ran" if change is Change.EXPIRE else "it failed, so nothing is charged")
    if actual > cap:
        return Charge(actual, cap, f"the charge is capped at {most:g} times the estimate")
    never_began = change is Change.CANCEL and not actual
    return Charge(actual, actual, "it was cancelled before it used anything" if never_began else "")


def cause(change: Change, gpu_ms: float, *, reason: str = "", finished: float = 0.0) -> str:
    """Return why a job is over that ends by `change`; arguments as of `charge`."""
    if change is Change.CANCEL:
        return CANCELLED if gpu_ms else WITHDRAWN
    if change is Change.EXPIRE:
        return EXPIRED
    if change is Change.FAIL:
        return BLOCKED_CAUSES.get(reason) or (PARTLY if finished else PLATFORM)
    return SUCCEEDED


def confirmation(job: Job) -> OutboxMessage:
    """Return the message that makes a job's reservation stand."""
    return OutboxMessage("confirm", _reserved(job) | {"units": job.estimated_units, "images": job.spec.images})


def settlement(
    job: Job, change: Change, charged: Charge, *, why: str, images: int = 0, gpu_ms: float = 0.0
) -> OutboxMessage:
    """Return the message that replaces a job's reservation by its charge; `why` is a cause."""
    return OutboxMessage(
        "settle",
        _reserved(job)
        | {
            "reserved_units": job.estimated_units,
            "reserved_images": job.spec.images,
            "actual_units": charged.actual_units,
            "charged_units": charged.charged_units,
            "images": images,
            "model_version": job.model_version,
            "outcome": OUTCOMES[change],
            "cause": why,
            "gpu_ms": gpu_ms,
        },
    )


def reservation_id(job: Job) -> JobId:
    """Return what the limiter knows a job's reservation by.

    A reservation is settled once; a job that came back from the dead letters has another one each time.
    """
    return JobId(f"{job.id}.{job.revivals}") if job.revivals else job.id


def _reserved(job: Job) -> dict[str, object]:
    """Return the fields that name a job's reservation, who made it, and when."""
    return {
        "reservation_id": reservation_id(job),
        "tenant_id": job.tenant_id,
        "tier": job.tier,
        "key_id": job.key_id,
        "address": job.address,
        "reserved_s": 0.0 if job.revivals else job.created_at,
    }
