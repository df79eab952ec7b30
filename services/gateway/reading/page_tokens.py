"""Tokens of the next page: opaque, signed, good only for the tenant and filter they were made for."""

from __future__ import annotations

from collections.abc import Sequence

from libs.errors import InvalidRequest, Violation
from libs.ids import TenantId
from libs.signing import Signer

_DEFAULT_SIZE, _MAX_SIZE = 50, 200


class PageTokens:
    """Makes and reads those of one list. What the list is narrowed by is `asked`, always as many texts."""

    def __init__(self, signer: Signer, purpose: str = "page") -> None:
        self._signer, self._purpose = signer, purpose

    def make(self, tenant_id: TenantId, asked: Sequence[str], place: Sequence[str]) -> str:
        """Return the token of the page that begins behind a place."""
        return self._signer.seal(self._purpose, (tenant_id, *asked, *place))

    def read(self, token: str, tenant_id: TenantId, asked: Sequence[str]) -> tuple[str, ...]:
        """Return behind which place the page begins, () for the first; raises InvalidRequest for any token but ours."""
        if not token:
            return ()
        parts, bound = self._signer.unseal(self._purpose, token), [tenant_id, *asked]
        if parts is None or parts[: len(bound)] != bound:
            told = "The page token is not one of this list: use it as it came, with the same filter."
            wrong = Violation("page_token", "is not a token of this list and filter")
            raise InvalidRequest(told, reason="PAGE_TOKEN_INVALID", violations=[wrong])
        return tuple(parts[len(bound) :])


def page_size(asked: int) -> int:
    """Return the size of a page: 50 when none is asked for, at most 200."""
    return min(asked, _MAX_SIZE) or _DEFAULT_SIZE
