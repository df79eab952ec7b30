"""The development key: made on the first start, kept in `$DARKROOM_DATA/dev-key`, readable by its owner only."""

from __future__ import annotations

from pathlib import Path

from darkroom.ratelimiter.v1 import admin_service_pb2 as pb
from darkroom.ratelimiter.v1 import admin_service_pb2_grpc as rpc
from libs import scopes, secret_files
from libs.roles import RATELIMITER
from libs.rpc import deadlines
from libs.rpc.mesh import Mesh

TENANT, TIER, NAME = "dev", "enterprise", "first key"


async def ensure(path: Path, ratelimiter_address: str, mesh: Mesh) -> str:
    """Return the key in `path`. Makes one when there is none, or when the ratelimiter does not know it (another
    database, or it was revoked)."""
    async with mesh.channel(ratelimiter_address, RATELIMITER, as_operator=True) as channel:
        admin = rpc.AdminServiceStub(channel)
        kept = _kept(path)
        if kept and await _is_known(admin, kept):
            return kept
        request = pb.CreateKeyRequest(tenant_id=TENANT, tier=TIER, name=NAME, scopes=scopes.NAMES)
        made = await admin.CreateKey(request, timeout=deadlines.ADMIN_S)
    secret_files.write_private(path, made.secret + "\n")
    return made.secret


def _kept(path: Path) -> str:
    return path.read_text().strip() if path.exists() else ""


async def _is_known(admin: rpc.AdminServiceAsyncStub, secret: str) -> bool:
    """Only prefixes come back from the ratelimiter; they are long enough to tell the keys of one tenant apart."""
    answer = await admin.ListKeys(pb.ListKeysRequest(tenant_id=TENANT), timeout=deadlines.ADMIN_S)
    return any(key.prefix and secret.startswith(key.prefix) and not key.HasField("revoke_time") for key in answer.keys)
