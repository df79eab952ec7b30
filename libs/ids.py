"""Ids that look alike and must not be swapped, and the making of new ones."""

from __future__ import annotations

import os
import time
from typing import NewType

JobId = NewType("JobId", str)
TenantId = NewType("TenantId", str)
KeyId = NewType("KeyId", str)
WorkerId = NewType("WorkerId", str)

_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def new_ulid(now_s: float | None = None) -> str:
    """Return 26 characters that sort by time: 48 bits of milliseconds, then 80 random bits."""
    milliseconds = int((time.time() if now_s is None else now_s) * 1000)
    number = (milliseconds << 80) | int.from_bytes(os.urandom(10), "big")
    return "".join(_CROCKFORD[(number >> shift) & 31] for shift in range(125, -1, -5))


def new_job_id(now_s: float | None = None) -> JobId:
    """Return a new job id; it is also the id of the job's reservation."""
    return JobId("job_" + new_ulid(now_s))


def new_key_id() -> KeyId:
    """Return a new id of an API key."""
    return KeyId("key_" + new_ulid())
