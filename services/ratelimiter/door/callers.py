"""Who may call, and by what they are recognised.

    Door
    ├── recognisers, asked in turn: the first that knows its kind of proof decides
    │   ├── url_recogniser.NotInUrl       never one in the URL
    │   ├── token_recogniser.ByToken      a token of an identity provider
    │   └── key_recogniser.ByKey          an API key
    └── strangers, when none did
        └── strangers.visitors.Visitors   a cookie, else the IP address

Nobody is left unknown: whoever proves nothing is a stranger, whoever proves something wrong is refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from libs import scopes
from libs.ids import KeyId, TenantId
from libs.scopes import Scopes
from services.ratelimiter.headers import Header

Claims: TypeAlias = Mapping[str, tuple[str, ...]]
"""What a token says, the words of each claim; one that says it in numbers or objects has none."""

_NO_KEY = KeyId("")
_CREATING = re.compile(r"(/v1/(jobs|uploads)|/darkroom\.v1\.\w+/(CreateJob|UploadImage)(Json)?)/*(\?.*)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Question:
    """What a request shows of its caller; empty where it shows nothing. `address` is the one that Envoy trusts."""

    address: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Names in lower case."""
    method: str = ""
    path: str = ""
    """With its query."""
    claims: Claims | None = None
    """Those of a token that Envoy has checked; None without a good one."""
    fault: str = ""
    """What Envoy found wrong with a token, in its words; empty where tokens are not taken."""
    token_ends_s: float | None = None
    """When the token of `claims` is taken no more."""

    @property
    def authorization(self) -> str:
        """The value of that header."""
        return self.headers.get("authorization", "")

    @property
    def is_grpc(self) -> bool:
        """Whether the caller speaks gRPC or gRPC-web, and is to be answered in it."""
        return self.headers.get("content-type", "").startswith("application/grpc")

    @property
    def creates(self) -> bool:
        """Whether it asks for a job or brings a picture."""
        return self.method == "POST" and _CREATING.fullmatch(self.path) is not None


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody known; `key_id` is empty for a caller without a key."""

    tenant_id: TenantId
    tier: str
    key_id: KeyId = _NO_KEY
    scopes: Scopes = scopes.USUAL
    address: str = ""
    """What stands for the address of a stranger; empty for everybody else."""
    ends_s: float | None = None
    """When the key or token of this call ends by itself; None for never."""
    trusted: Sequence[Header] = ()
    """More for the gateway: `x-darkroom-…` headers."""
    told: Sequence[Header] = ()
    """More for the caller: headers of the answer, a cookie for instance."""


class Recogniser(Protocol):
    """Knows one kind of proof."""

    async def recognise(self, question: Question) -> Caller | None:
        """Return who calls, or None when the request shows no proof of this kind.

        Raises Unauthenticated for a proof that is wrong, LimitExceeded for an address with too many of those,
        Unavailable when it cannot be checked now.
        """
        ...


class Strangers(Protocol):
    """Knows callers who prove nothing."""

    async def recognise(self, question: Question) -> Caller:
        """Return as whom they are let in."""
        ...

    def at(self, address: str) -> Caller:
        """Return whose limits somebody is told who was refused."""
        ...
