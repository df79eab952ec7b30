"""Keys in the hands of their tenant.

Nobody reaches another tenant's, or makes one that may do more or lasts longer than what they call with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from libs import scopes
from libs.errors import NotFound, PermissionDenied, PreconditionFailed
from libs.ids import KeyId, TenantId
from libs.scopes import Scopes
from services.ratelimiter.keys.accounts import Key, KeyPlace
from services.ratelimiter.keys.keyring import Keyring, Rotation

_PAGE = 200  # keys in one answer
_MOST_KEYS = 100  # of one tenant that work
_MOST_WITH_REPLACED = 200  # each key may have one more beside it while it is replaced


@dataclass(frozen=True, slots=True)
class Holder:
    """Who asks, and what their own key or token may be used for."""

    tenant_id: TenantId
    tier: str
    scopes: Scopes
    ends_s: float | None = None
    """When that key or token ends, in Unix seconds; None for never."""


class OwnKeys:
    """What a holder may do with the keys of their tenant."""

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring

    async def list(self, holder: Holder, asked: int, after: KeyPlace | None) -> tuple[Sequence[Key], bool]:
        """Return a page of the keys of the tenant, oldest first, and whether more come behind it."""
        most = min(asked or _PAGE, _PAGE)
        found = await self._keyring.page(holder.tenant_id, most + 1, after)
        return found[:most], len(found) > most

    async def create(
        self, holder: Holder, name: str, asked: Scopes, lifetime_s: float | None = None
    ) -> tuple[Key, str]:
        """Make a key. Raises PermissionDenied for scopes that the holder lacks, PreconditionFailed for too many keys."""
        wanted = asked or holder.scopes & scopes.USUAL
        _check(holder, wanted)
        await self._check_room(holder, _MOST_KEYS)
        return await self._keyring.create(holder.tenant_id, holder.tier, name, wanted, lifetime_s, holder.ends_s)

    async def rotate(self, holder: Holder, key_id: KeyId, overlap_s: float) -> Rotation:
        """Make a key in the place of one. Raises NotFound, PermissionDenied, PreconditionFailed."""
        _check(holder, (await self._own(holder, key_id)).scopes)
        await self._check_room(holder, _MOST_WITH_REPLACED)
        return await self._keyring.rotate(key_id, overlap_s, holder.ends_s)

    async def revoke(self, holder: Holder, key_id: KeyId) -> Key:
        """Withdraw a key, of more scopes too: whoever finds one that leaked may end it. Raises NotFound."""
        await self._own(holder, key_id)
        return await self._keyring.revoke(key_id)

    async def _own(self, holder: Holder, key_id: KeyId) -> Key:
        missing = NotFound("Your tenant has no such key.", reason="KEY_NOT_FOUND")
        try:
            found = await self._keyring.get(key_id)
        except NotFound:
            raise missing from None
        if found.tenant_id != holder.tenant_id:
            raise missing
        return found

    async def _check_room(self, holder: Holder, most: int) -> None:
        works = await self._keyring.working(holder.tenant_id)
        if works >= most:
            told = (
                f"A tenant has at most {most} keys that work, and these are there. Withdraw one first; no key was made."
            )
            raise PreconditionFailed(told, metadata={"keys": str(works)})


def _check(holder: Holder, wanted: Scopes) -> None:
    lacking = scopes.text(wanted - holder.scopes)
    if lacking:
        told = f"A key may be given only what the one you call with may do, and that lacks {lacking}. No key was made."
        raise PermissionDenied(told, reason="SCOPE_MISSING", metadata={"scope": lacking})
