"""Prices: `darkroom.scheduler.v1.CostEntry` ⇄ `CostEntry`."""

from __future__ import annotations

from darkroom.scheduler.v1 import scheduler_service_pb2 as pb
from libs.generation.cost import BucketPrice, CostEntry
from libs.generation.work import Bucket

_USUAL = CostEntry()


def cost_to_pb(model_version: str, entry: CostEntry) -> pb.CostEntry:
    """Return the message."""
    return pb.CostEntry(
        model_version=model_version,
        fixed=entry.fixed,
        per_mp=entry.per_mp,
        per_mp2=entry.per_mp2,
        guided=entry.guided,
        per_picture=entry.per_picture,
        per_step=entry.per_step,
        per_row=entry.per_row,
        typical=entry.typical,
        high=entry.high,
        buckets=[_bucket_to_pb(price) for price in entry.buckets],
    )


def cost_from_pb(entry: pb.CostEntry) -> CostEntry:
    """Return the domain's form; a scheduler that does not measure tells no ratios."""
    return CostEntry(
        fixed=entry.fixed,
        per_mp=entry.per_mp,
        per_mp2=entry.per_mp2,
        guided=entry.guided,
        per_picture=entry.per_picture,
        per_step=entry.per_step,
        per_row=entry.per_row,
        typical=entry.typical or _USUAL.typical,
        high=entry.high or _USUAL.high,
        buckets=tuple(
            BucketPrice(Bucket(each.kind, each.size, each.steps), each.typical, each.high) for each in entry.buckets
        ),
    )


def _bucket_to_pb(price: BucketPrice) -> pb.BucketPrice:
    bucket = price.bucket
    return pb.BucketPrice(
        kind=bucket.kind, size=bucket.size, steps=bucket.steps, typical=price.typical, high=price.high
    )
