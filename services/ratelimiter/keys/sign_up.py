"""Free accounts for whoever asks: off, on, or by invite. A few a day from one address."""

from __future__ import annotations

import hashlib
import logging
import math
import secrets
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from libs import scopes
from libs.clock import Clock
from libs.errors import InvalidRequest, LimitExceeded, PermissionDenied
from libs.ids import TenantId, new_key_id, new_ulid
from services.ratelimiter.balances import days
from services.ratelimiter.keys import form as keys
from services.ratelimiter.keys.accounts import KeptKey, Key

logger = logging.getLogger(__name__)

MOST_A_DAY, MOST_AROUND = 3, 12  # of one address; of the IPv6 network around it
_TIER = "free"
_CODE_BYTES = 16


class Mode(Enum):
    """Who may sign up."""

    OFF = "off"  # nobody
    ON = "on"  # everybody
    INVITE = "invite"  # whoever has a code


class Outcome(Enum):
    """What became of a sign-up."""

    MADE = "made"  # the account is there
    NO_INVITE = "no invite"  # the code is unknown, used up or expired; nothing was written
    TOO_MANY = "too many"  # the address has had its accounts of the day; nothing was written
    TOO_MANY_AROUND = "too many around"  # the IPv6 network around it has; nothing was written


_FULL = {Outcome.TOO_MANY: MOST_A_DAY, Outcome.TOO_MANY_AROUND: MOST_AROUND}


@dataclass(frozen=True, slots=True)
class Invite:
    """A code by its hash, how many accounts it makes, until when (Unix seconds, None for always)."""

    digest: bytes
    uses: int
    created_s: float
    expires_s: float | None
    name: str = ""


class SignUps(Protocol):
    """Keeps invites and how many accounts came from where. Raises Unavailable when it cannot be reached."""

    async def open(self, kept: KeptKey, address: str, day: int, code: bytes | None) -> Outcome:
        """Make a tenant with its key, all or nothing: one use of the code, and of an address at most MOST_A_DAY a day,
        of the IPv6 network around it MOST_AROUND.
        """
        ...

    async def invite(self, invite: Invite) -> None:
        """Keep an invite."""
        ...


class SignUp:
    """Makes a free tenant and its first key, which may do everything: there is no other way to look after it."""

    def __init__(self, kept: SignUps, mode: Mode, clock: Clock) -> None:
        self._kept, self._mode, self._clock = kept, mode, clock

    async def open(self, address: str, code: str, name: str) -> tuple[Key, str]:
        """Return the key of a new account, and its secret. Raises PermissionDenied, LimitExceeded, InvalidRequest."""
        self._check(address, code)
        now_s, secret = self._clock.now(), keys.new_secret()
        tenant_id = TenantId(f"acct_{new_ulid(now_s)}")
        key = Key(new_key_id(), tenant_id, _TIER, keys.prefix_of(secret), name, now_s, scopes=scopes.EVERY)
        by = _digest(code) if self._mode is Mode.INVITE else None
        outcome = await self._kept.open(KeptKey(key, keys.digest(secret)), address, days.number_of(now_s), by)
        if outcome is Outcome.NO_INVITE:
            raise _no_invite("This invite is not known here, used up or expired.")
        if outcome in _FULL:
            raise _too_many(_FULL[outcome], days.DAY_S - now_s % days.DAY_S)
        logger.info("made an account", extra={"tenant_id": tenant_id, "key_id": key.id})
        return key, secret

    async def invite(self, uses: int, lifetime_s: float | None, name: str) -> tuple[str, float | None]:
        """Make an invite; returns its code, which is kept nowhere, and when it expires."""
        code, now_s = f"inv_{secrets.token_urlsafe(_CODE_BYTES)}", self._clock.now()
        expires_s = None if lifetime_s is None else now_s + lifetime_s
        await self._kept.invite(Invite(_digest(code), uses, now_s, expires_s, name))
        return code, expires_s

    def _check(self, address: str, code: str) -> None:
        if self._mode is Mode.OFF:
            told = "Nobody can sign up here: ask whoever runs this service for a key. Nothing was made."
            raise PermissionDenied(told, reason="SIGN_UP_OFF")
        if not address:
            raise InvalidRequest("Sign up without a key: this call brought one. Nothing was made.")
        if self._mode is Mode.INVITE and not code:
            raise _no_invite("Signing up needs an invite: put its code into the field invite.")


def _digest(code: str) -> bytes:
    return hashlib.sha256(code.encode()).digest()


def _no_invite(told: str) -> PermissionDenied:
    return PermissionDenied(f"{told} Ask whoever runs this service for one. Nothing was made.", reason="INVITE_INVALID")


def _too_many(most: int, wait_s: float) -> LimitExceeded:
    hours = math.ceil(wait_s / 3600)
    told = f"{most} accounts were made from your network today. More can be made after 00:00 UTC (in {hours} h)."
    return LimitExceeded(
        f"{told} Nothing was made.",
        reason="SIGN_UPS_EXHAUSTED",
        metadata={"dimension": "sign_ups", "limit": str(most)},
        retry_after_s=wait_s,
    )
