"""Capabilities in URLs: a signed, expiring link to a picture, and a token for a job's event stream."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote

from libs.errors import NotFound
from libs.ids import JobId, TenantId
from libs.signing import Signer

_BLOB, _EVENTS = "blob", "events"
_EXTENSIONS = {"image/png": "png", "image/jpeg": "jpg", "image/webp": "webp", "video/mp4": "mp4"}
_TYPES = {extension: content_type for content_type, extension in _EXTENSIONS.items()}
_NAME = re.compile(r"([0-9a-f]{64})\.(\w+)", re.ASCII)


@dataclass(frozen=True, slots=True)
class LinkedBlob:
    """What a valid link leads to, and until when (Unix seconds)."""

    sha256: str
    content_type: str
    expires_at: int


@dataclass(frozen=True, slots=True)
class LinkedJob:
    """The job whose events a token opens."""

    job_id: JobId
    tenant_id: TenantId


class Links:
    """Makes and checks them."""

    def __init__(self, signer: Signer) -> None:
        self._signer = signer

    def blob_path(self, sha256: str, content_type: str, expires_at: int) -> str:
        """Return the path of a picture, good without a key until `expires_at` (Unix seconds)."""
        name = f"{sha256}.{_EXTENSIONS.get(content_type, 'png')}"
        key_id, signature = self._signer.sign(_BLOB, (name, str(expires_at)))
        return f"/v1/blobs/{name}?e={expires_at}&k={quote(key_id, safe='')}&s={signature}"

    def blob(self, name: str, expires_at: int, key_id: str, signature: str, now: float) -> LinkedBlob:
        """Return what a link leads to; raises NotFound when it is forged, altered, cut or over."""
        valid = self._signer.is_valid(_BLOB, (name, str(expires_at)), key_id, signature)
        matched = _NAME.fullmatch(name)
        if not valid or matched is None or expires_at <= now:
            raise _invalid()
        return LinkedBlob(matched[1], _TYPES[matched[2]], expires_at)

    def events_path(self, job_id: JobId, tenant_id: TenantId, expires_at: int) -> str:
        """Return the path of a job's event stream, good without a key until `expires_at` (Unix seconds)."""
        token = self._signer.seal(_EVENTS, (job_id, tenant_id, str(expires_at)))
        return f"/v1/jobs/{job_id}/events?token={token}"

    def events(self, token: str, now: float) -> LinkedJob:
        """Return the job whose events a token opens; raises NotFound when it is forged or over."""
        parts = self._signer.unseal(_EVENTS, token)
        if parts is None or int(parts[2]) <= now:
            raise _invalid()
        return LinkedJob(JobId(parts[0]), TenantId(parts[1]))


def _invalid() -> NotFound:
    told = "This link is not valid, or no longer. Read the job again for a new one. Nothing was charged."
    return NotFound(told, reason="LINK_INVALID")
