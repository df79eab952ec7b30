"""The cookie of a visitor: who it is, signed for the network it was made in.

    darkroom_visitor=<day>-<128 random bits>.<signature>.<id of the signing key>

The day is that of its making, in days since 1970: how old a visitor is can be read from the tenant id. The signature
covers the network as well, which the cookie does not show: brought from elsewhere it is none.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote, unquote

from libs.signing import Signer
from services.ratelimiter.balances.days import DAY_S, number_of
from services.ratelimiter.headers import Header
from services.ratelimiter.strangers import ages

NAME = "darkroom_visitor"
LIFE_DAYS = 400  # as long as browsers keep any cookie
_PURPOSE = "visitor"


@dataclass(frozen=True, slots=True)
class Visitor:
    """Somebody with a cookie of ours."""

    id: str


@dataclass(frozen=True, slots=True)
class Shown:
    """A visitor as the cookie told; `aged` when it was signed with a key that is not the current one any more."""

    visitor: Visitor
    aged: bool = False


class Cookies:
    """Makes and reads them."""

    def __init__(self, signer: Signer) -> None:
        self._signer = signer

    def header(self, visitor: Visitor, network: str, *, secure: bool) -> Header:
        """Return the header that hands the cookie out, signed with the current key."""
        key_id, signature = self._signer.sign(_PURPOSE, (visitor.id, network))
        value = f"{visitor.id}.{signature}.{quote(key_id, safe='')}"
        kept = f"Path=/; Max-Age={LIFE_DAYS * DAY_S}; HttpOnly; SameSite=Lax"
        return "set-cookie", f"{NAME}={value}; {kept}{'; Secure' if secure else ''}"

    def read(self, header: str, network: str, now_s: float) -> Shown | None:
        """Return the visitor of a `cookie` header; None without one, or one that is not good here and now."""
        for value in _values(header):
            visitor_id, _, rest = value.partition(".")
            signature, _, key_id = rest.partition(".")
            if _is_alive(visitor_id, now_s) and self._is_ours(visitor_id, network, unquote(key_id), signature):
                current, _ = self._signer.sign(_PURPOSE, ())
                return Shown(Visitor(visitor_id), aged=unquote(key_id) != current)
        return None

    def _is_ours(self, visitor_id: str, network: str, key_id: str, signature: str) -> bool:
        return self._signer.is_valid(_PURPOSE, (visitor_id, network), key_id, signature)


def new_visitor(now_s: float) -> Visitor:
    """Return somebody who was never here."""
    return Visitor(ages.new_id(now_s))


def _is_alive(visitor_id: str, now_s: float) -> bool:
    try:
        age_days = number_of(now_s) - ages.made_on(visitor_id)
    except ValueError:
        return False
    return -1 <= age_days <= LIFE_DAYS  # another rate limiter's clock may be ahead


def _values(header: str) -> list[str]:
    """Return the values of our cookie; a browser may send several, of different paths."""
    pairs = (part.strip().partition("=") for part in header.split(";"))
    return [value for name, _, value in pairs if name == NAME][:4]
