"""Tokens of the next page: opaque, signed, good only for the tenant and filter they were made for."""

from __future__ import annotations

from libs.errors import InvalidRequest, Violation
from libs.ids import TenantId
from libs.signing import Signer

_PURPOSE = "page"
_DEFAULT_SIZE, _MAX_SIZE = 50, 200


class PageTokens:
    """Makes and reads them."""

    def __init__(self, signer: Signer) -> None:
        self._signer = signer

    def make(self, tenant_id: TenantId, state: int, before_id: str) -> str:
        """Return the token of the page that begins below `before_id`."""
        return self._signer.seal(_PURPOSE, (tenant_id, str(state), before_id))

    def read(self, token: str, tenant_id: TenantId, state: int) -> str:
        """Return where the page begins, empty for the first; raises InvalidRequest for any token but ours."""
        if not token:
            return ""
        parts = self._signer.unseal(_PURPOSE, token)
        if parts is None or parts[:2] != [tenant_id, str(state)]:
            told = "The page token is not one of this list: use it as it came, with the same filter."
            wrong = Violation("page_token", "is not a token of this list and filter")
            raise InvalidRequest(told, reason="PAGE_TOKEN_INVALID", violations=[wrong])
        return parts[2]


def page_size(asked: int) -> int:
    """Return the size of a page: 50 when none is asked for, at most 200."""
    return min(asked, _MAX_SIZE) or _DEFAULT_SIZE
