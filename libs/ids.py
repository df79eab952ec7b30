"""Ids that look alike and must not be swapped, and the making of new ones."""

from __future__ import annotations

import os
import time
from typing import NewType

JobId = NewType("JobId", str)
TenantId = NewType("TenantId", str)
KeyId = NewType("KeyId", str)
WorkerId = NewType("WorkerId", str)
UploadId = NewType("UploadId", str)
EndpointId = NewType("EndpointId", str)

_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_ULID_CHARS, _ULID_TIME_CHARS = 26, 10


def new_ulid(now_s: float | None = None) -> str:
    """Return 26 characters that sort by time: 48 bits of milliseconds, then 80 random bits."""
    milliseconds = int((time.time() if now_s is None else now_s) * 1000)
    number = (milliseconds << 80) | int.from_bytes(os.urandom(10), "big")
    return "".join(_CROCKFORD[(number >> shift) & 31] for shift in range(125, -1, -5))


def ulid_time_s(ulid: str) -> float:
    """Return when a ULID was made, in Unix seconds; raises ValueError for what is none."""
    if len(ulid) != _ULID_CHARS or not set(ulid) <= set(_CROCKFORD):
        raise ValueError(f"a ULID has {_ULID_CHARS} characters of {_CROCKFORD}")
    milliseconds = 0
    for character in ulid[:_ULID_TIME_CHARS]:
        milliseconds = milliseconds * 32 + _CROCKFORD.index(character)
    return milliseconds / 1000


def new_job_id(now_s: float | None = None) -> JobId:
    """Return a new job id; it is also the id of the job's reservation."""
    return JobId("job_" + new_ulid(now_s))


def new_key_id() -> KeyId:
    """Return a new id of an API key."""
    return KeyId("key_" + new_ulid())


def is_key_id(key_id: KeyId) -> bool:
    """Return whether it is the id of an API key, and not what stands in for one of a token, or nothing."""
    return key_id.startswith("key_")


def new_upload_id(now_s: float | None = None) -> UploadId:
    """Return a new id of an uploaded picture; the time in it says until when it is kept."""
    return UploadId("upl_" + new_ulid(now_s))


def new_endpoint_id(now_s: float | None = None) -> EndpointId:
    """Return a new id of an address that events are sent to."""
    return EndpointId("wh_" + new_ulid(now_s))
