"""Where uploaded pictures lie, whose they are and how long they are good.

The key holds the tenant, so that an id leads nowhere for anybody else; the id holds the time, so that nothing else
has to be written down. What is over is removed by whoever sweeps `UPLOADS/`; jobs that wait may still name it.
"""

from __future__ import annotations

import hashlib

from libs.ids import TenantId, UploadId, ulid_time_s

UPLOADS = "uploads"
LIFE_S = 24 * 3600.0
_TENANT_DIGITS = 32


def upload_key(tenant_id: TenantId, upload_id: UploadId) -> str:
    """Return the key of a tenant's upload in the blob store. Tenants are hashed: their names may hold anything."""
    tenant = hashlib.sha256(tenant_id.encode()).hexdigest()[:_TENANT_DIGITS]
    return f"{UPLOADS}/{tenant}/{upload_id}"


def expires_at(upload_id: UploadId) -> float:
    """Return until when requests may name an upload, in Unix seconds; raises ValueError for what is no such id."""
    return ulid_time_s(upload_id.removeprefix("upl_")) + LIFE_S
