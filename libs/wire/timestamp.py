"""Moments on the wire: Unix seconds ⇄ `google.protobuf.Timestamp`."""

from __future__ import annotations

from google.protobuf.timestamp_pb2 import Timestamp


def timestamp(seconds: float) -> Timestamp:
    """Return Unix seconds as a timestamp, to the microsecond."""
    moment = Timestamp()
    moment.FromMicroseconds(round(seconds * 1e6))
    return moment


def seconds(moment: Timestamp) -> float:
    """Return a timestamp as Unix seconds, to the millisecond."""
    return moment.ToMilliseconds() / 1000
