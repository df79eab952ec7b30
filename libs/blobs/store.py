"""The seam between pictures and where they lie, and the names of their objects.

Promises:
1. An object is written once and whole: a second put of a key changes nothing and is no error.
2. What was put is there for every later reader until it is deleted. Deleting what is missing is no error.
3. Every call ends within the adapter's deadline, or fails with Unavailable.
4. A key that `check_key` does not know is a ValueError, before anything is touched.

    images/<sha256>                         pictures
    checkpoints/<job id>/<attempt>-<step>   what another worker needs to go on; gone when the job ends
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Protocol

from libs.errors import NotFound
from libs.ids import JobId

CHUNK_BYTES = 256 * 1024
DEADLINE_S = 60.0  # moving one picture; the same as libs.rpc.deadlines.BLOB_S

_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
_SHA256 = re.compile(r"[0-9a-f]{64}")
CHECKPOINTS = "checkpoints"


class BlobStore(Protocol):
    """Keeps bytes under keys like `images/<sha256>`."""

    async def put(self, key: str, data: bytes, content_type: str) -> None:
        """Write an object if its key is not there yet. The media type is kept where the adapter can."""
        ...

    def get_stream(self, key: str, chunk_bytes: int = CHUNK_BYTES) -> AsyncIterator[bytes]:
        """Yield the bytes in chunks of about `chunk_bytes`; raises NotFound before the first of them."""
        ...

    async def head(self, key: str) -> int:
        """Return the size in bytes; raises NotFound."""
        ...

    async def exists(self, key: str) -> bool:
        """Return whether the object is there."""
        ...

    async def delete(self, key: str) -> None:
        """Remove the object; fine when it is missing."""
        ...

    def list_keys(self, folder: str) -> AsyncIterator[str]:
        """Yield the keys below `folder/`, in no order; none when there is no such folder."""
        ...


def image_key(sha256: str) -> str:
    """Return the key of a picture from the hex SHA-256 of its bytes; raises ValueError for anything else."""
    if not _SHA256.fullmatch(sha256):
        raise ValueError("a picture is named by 64 hex digits in lower case")
    return f"images/{sha256}"


def checkpoint_folder(job_id: JobId) -> str:
    """Return what the keys of all checkpoints of a job begin with, without the last slash."""
    return f"{CHECKPOINTS}/{job_id}"


def checkpoint_key(job_id: JobId, attempt: int, step: int) -> str:
    """Return the key of what an attempt has after a step."""
    return f"{checkpoint_folder(job_id)}/{attempt}-{step}"


def check_key(key: str) -> str:
    """Return the key if it is plain parts between slashes, none of which begins with a dot; else ValueError."""
    if not all(_PART.fullmatch(part) for part in key.split("/")):
        raise ValueError(f"{key!r} is not the name of an object")
    return key


def missing(key: str) -> NotFound:
    """Return the error for a key that is not there."""
    told = "This picture is no longer stored. Nothing was charged."
    return NotFound(told, reason="IMAGE_NOT_FOUND", metadata={"key": key})
