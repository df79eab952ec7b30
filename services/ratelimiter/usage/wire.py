"""Messages of UsageService ⇄ the domain. Every invalid field is named at once."""

from __future__ import annotations

from darkroom.ratelimiter.v1 import usage_service_pb2 as pb
from libs.errors import InvalidRequest, Violation, listed
from services.ratelimiter.usage.reports import Part, UsageQuery, UsageSum, day_from, day_text

_PARTS = tuple(part.value for part in Part)


def query_from_pb(message: pb.ReadUsageRequest) -> UsageQuery:
    """Return what is asked for. Raises InvalidRequest."""
    problems: list[Violation] = []
    if not set(message.by) <= set(_PARTS) or len(set(message.by)) < len(message.by):
        problems.append(Violation("by", f"must be some of {', '.join(_PARTS)}, each once"))
    days = [_day(name, getattr(message, name), problems) for name in ("from_day", "to_day")]
    if days[0] is not None and days[1] is not None and days[0] > days[1]:
        problems.append(Violation("to_day", "must not be before from_day"))
    if problems:
        raise InvalidRequest(f"This usage cannot be read: {listed(problems)}.", violations=problems)
    return UsageQuery(
        tuple(Part(part) for part in message.by), message.tenant_id, message.key_id, message.model, days[0], days[1]
    )


def line_to_pb(line: UsageSum) -> pb.UsageLine:
    """Return a sum as it travels."""
    return pb.UsageLine(
        day="" if line.day is None else day_text(line.day),
        tenant_id=line.tenant_id or "",
        key_id=line.key_id or "",
        model_version=line.model_version or "",
        jobs=line.jobs,
        succeeded=line.succeeded,
        failed=line.failed,
        cancelled=line.cancelled,
        expired=line.expired,
        images=line.images,
        gpu_ms=line.gpu_ms,
        actual_units=line.actual_units,
        charged_units=line.charged_units,
        micros=line.micros,
        succeeded_gpu_ms=line.succeeded_gpu_ms,
    )


def _day(name: str, text: str, problems: list[Violation]) -> int | None:
    if not text:
        return None
    try:
        return day_from(text)
    except ValueError:
        problems.append(Violation(name, "must be a day like 2026-11-21"))
        return None
