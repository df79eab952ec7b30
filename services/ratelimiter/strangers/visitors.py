"""As whom a caller is taken who proves nothing: a visitor with a cookie, else everybody at the address."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from libs import scopes
from libs.clock import Clock
from libs.ids import TenantId
from libs.secret_files import ADDRESS_SECRET, COOKIE_KEYS, read_signing_keys, read_token
from libs.signing import Signer
from services.ratelimiter.abuse.watch import Watch
from services.ratelimiter.door.callers import Caller, Question
from services.ratelimiter.headers import Header
from services.ratelimiter.strangers import addresses, cookies
from services.ratelimiter.strangers.ages import PREFIX
from services.ratelimiter.strangers.buckets import NEWCOMERS, Buckets
from services.ratelimiter.strangers.cookies import Cookies, Shown
from services.ratelimiter.strangers.pseudonyms import Pseudonyms
from services.ratelimiter.tiers.policy import ANONYMOUS

ABUSE = "x-darkroom-abuse"
# What a load balancer or a shared cache asks for: a cookie in the answer would go to the wrong people.
_NO_COOKIE = ("/v1/blobs/", "/healthz")


class Visitors:
    """Recognises them. No question fails: a cookie that is not good is as none."""

    def __init__(self, made: Cookies, pseudonyms: Pseudonyms, watch: Watch, clock: Clock) -> None:
        self._cookies, self._pseudonyms, self._watch, self._clock = made, pseudonyms, watch, clock
        self._newcomers = Buckets(NEWCOMERS)

    async def recognise(self, question: Question) -> Caller:
        """Return the caller, and for whoever has no cookie one to come back with."""
        network = addresses.network(question.address)
        shown = self._cookies.read(question.headers.get("cookie", ""), network, self._clock.now())
        caller = self._taken(self._pseudonyms.of(question.address), shown)
        told = self._renewed(shown, question, network) if shown else self._welcome(question, caller.address, network)
        return dataclasses.replace(caller, told=told, trusted=self._looked_at(caller, question))

    def at(self, address: str) -> Caller:
        """Return whose limits somebody is told who was refused."""
        return self._taken(self._pseudonyms.of(address))

    def _taken(self, address: str, shown: Shown | None = None) -> Caller:
        tenant_id = TenantId(PREFIX + shown.visitor.id) if shown else addresses.tenant_at(address)
        return Caller(tenant_id, ANONYMOUS, scopes=scopes.STRANGERS, address=address)

    def _looked_at(self, caller: Caller, question: Question) -> tuple[Header, ...]:
        if question.creates:
            self._watch.came(question.headers, caller.address)
        found = self._watch.score(caller.tenant_id, question.headers, caller.address, question.address)
        return ((ABUSE, str(found)),) if found else ()

    def _welcome(self, question: Question, address: str, network: str) -> tuple[Header, ...]:
        if not _keeps_cookies(question):
            return ()
        now_s = self._clock.now()
        if self._newcomers.take(address, now_s):
            return ()
        return (self._cookies.header(cookies.new_visitor(now_s), network, secure=_is_secure(question)),)

    def _renewed(self, shown: Shown, question: Question, network: str) -> tuple[Header, ...]:
        """Sign it anew before its key goes."""
        if not shown.aged:
            return ()
        return (self._cookies.header(shown.visitor, network, secure=_is_secure(question)),)


def strangers_at(secrets_folder: Path, watch: Watch, clock: Clock) -> Visitors:
    """Return the recogniser with the keys of a folder; raises SecretMissing."""
    cookies_of = Cookies(Signer(read_signing_keys(secrets_folder, COOKIE_KEYS)))
    return Visitors(cookies_of, Pseudonyms(read_token(secrets_folder, ADDRESS_SECRET)), watch, clock)


def _keeps_cookies(question: Question) -> bool:
    return not question.is_grpc and not question.path.startswith(_NO_COOKIE)


def _is_secure(question: Question) -> bool:
    return question.headers.get("x-forwarded-proto") == "https"
