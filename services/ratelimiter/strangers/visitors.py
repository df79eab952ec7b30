"""As whom a caller is taken who proves nothing: a visitor with a cookie, else everybody at the address."""

from __future__ import annotations

from pathlib import Path

from libs import scopes
from libs.clock import Clock
from libs.ids import TenantId
from libs.secret_files import COOKIE_KEYS, read_signing_keys
from libs.signing import Signer
from services.ratelimiter.callers import Caller, Question
from services.ratelimiter.headers import Header
from services.ratelimiter.policy import ANONYMOUS
from services.ratelimiter.strangers import addresses, cookies
from services.ratelimiter.strangers.ages import PREFIX
from services.ratelimiter.strangers.cookies import Cookies, Shown
from services.ratelimiter.strangers.newcomers import Newcomers

# What a load balancer or a shared cache asks for: a cookie in the answer would go to the wrong people.
_NO_COOKIE = ("/v1/blobs/", "/healthz")


class Visitors:
    """Recognises them. No question fails: a cookie that is not good is as none."""

    def __init__(self, made: Cookies, newcomers: Newcomers, clock: Clock) -> None:
        self._cookies, self._newcomers, self._clock = made, newcomers, clock

    async def recognise(self, question: Question) -> Caller:
        """Return the caller, and for whoever has no cookie one to come back with."""
        network = addresses.network(question.address)
        shown = self._cookies.read(question.headers.get("cookie", ""), network, self._clock.now())
        if shown is None:
            return self._taken(addresses.counted(question.address), told=self._welcome(question, network))
        return self._taken(addresses.counted(question.address), shown, self._renewed(shown, question, network))

    def at(self, address: str) -> Caller:
        """Return whose limits somebody is told who was refused."""
        return self._taken(addresses.counted(address))

    def _taken(self, address: str, shown: Shown | None = None, told: tuple[Header, ...] = ()) -> Caller:
        tenant_id = TenantId(PREFIX + shown.visitor.id) if shown else addresses.tenant_at(address)
        return Caller(tenant_id, ANONYMOUS, scopes=scopes.STRANGERS, address=address, told=told)

    def _welcome(self, question: Question, network: str) -> tuple[Header, ...]:
        if not _keeps_cookies(question):
            return ()
        now_s = self._clock.now()
        if not self._newcomers.admit(addresses.counted(question.address), now_s):
            return ()
        return (self._cookies.header(cookies.new_visitor(now_s), network, secure=_is_secure(question)),)

    def _renewed(self, shown: Shown, question: Question, network: str) -> tuple[Header, ...]:
        """Sign it anew before its key goes."""
        if not shown.aged:
            return ()
        return (self._cookies.header(shown.visitor, network, secure=_is_secure(question)),)


def strangers_at(secrets_folder: Path, clock: Clock) -> Visitors:
    """Return the recogniser with the keys of a folder; raises SecretMissing."""
    return Visitors(Cookies(Signer(read_signing_keys(secrets_folder, COOKIE_KEYS))), Newcomers(), clock)


def _keeps_cookies(question: Question) -> bool:
    is_grpc = question.headers.get("content-type", "").startswith("application/grpc")
    return not is_grpc and not question.path.startswith(_NO_COOKIE)


def _is_secure(question: Question) -> bool:
    return question.headers.get("x-forwarded-proto") == "https"
