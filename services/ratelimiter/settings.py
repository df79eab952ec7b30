"""What this process takes from the environment."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from libs import settings
from libs.rpc.process import ProcessSettings
from libs.sql import addresses
from services.ratelimiter.abuse import reputation as abuse
from services.ratelimiter.balances.days import DAY_S
from services.ratelimiter.door.token_recogniser import ClaimNames
from services.ratelimiter.keys.sign_up import Mode
from services.ratelimiter.tiers import policy


def _are_tiers(values: tuple[str, ...]) -> str | None:
    known = [tier for tier in policy.TIERS if tier != policy.ANONYMOUS]
    wrong = [value for value in values if value not in known]
    return f"{wrong[0]} is no tier for them; give a comma list of {', '.join(known)}" if wrong else None


def _is_redis(value: str) -> str | None:
    fine = not value or value.startswith(("redis://", "rediss://", "unix://"))
    return None if fine else "must be empty, or an address like redis://host:6379/0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(ProcessSettings):
    """The common ones, and these."""

    database_url: str = field(default="", metadata={"check": addresses.is_database_url, "secret": True})
    """SQLAlchemy address of the database; by default the SQLite file `ratelimiter.db` in the data folder."""
    tiers: Path = field(default=Path(), metadata={"check": policy.complaint})
    """The file of the tiers; by default `tiers.toml` in the data folder, and while there is none the shipped one."""
    redis: str = field(default="", metadata={"secret": True, "check": _is_redis})
    """Address of the Redis in which several ratelimiters keep one ledger; by default this process keeps its own."""
    redis_deadline_s: float = field(default=0.05, metadata={"check": settings.is_positive})
    """Seconds in which Redis must answer; a decision takes a millisecond or two, and who waits long had better go alone."""
    replicas: int = field(default=1, metadata={"check": settings.is_positive})
    """How many ratelimiters share the Redis: each grants so small a part of a tier's `outage_share` while it is away."""
    reservation_ttl_s: float = field(default=60.0, metadata={"check": settings.is_positive})
    """Seconds after which a reservation that nobody confirmed is given back."""
    lease_s: float = field(default=120.0, metadata={"check": settings.is_positive})
    """Seconds for which pictures in flight keep their place; the scheduler renews it every 30 s for open jobs."""
    usage_life_s: float = field(default=400.0 * DAY_S, metadata={"check": settings.is_positive})
    """Seconds that usage, by job and by day, and events of tenants are kept."""
    wrong_keys_per_min: float = field(default=10.0, metadata={"check": settings.is_positive})
    """Requests a minute with a key or token that is not good, from one address, that are answered with 401."""
    reputation: tuple[str, ...] = field(default=(), metadata={"check": abuse.complaint})
    """Files of networks that automata like to call from, a CIDR a line; they make callers without a key suspect."""
    sign_up: str = field(default=Mode.OFF.value, metadata={"check": settings.one_of(*(mode.value for mode in Mode))})
    """Who may make a free account: `off` nobody, `on` everybody, `invite` whoever has a code."""
    jwt_tenant_claim: str = "tenant"
    """Claim of a token that names its tenant."""
    jwt_tier_claim: str = "tier"
    """Claim that names the tier of a tenant that is new."""
    jwt_scope_claim: str = "scope"
    """Claim that names what the token may be used for, as text with spaces or as a list."""
    jwt_tiers: tuple[str, ...] = field(default=(), metadata={"check": _are_tiers})
    """Tiers that a token may give to a tenant that is new; it is `free` otherwise. An old one keeps its tier."""

    @property
    def claim_names(self) -> ClaimNames:
        """How tokens are read."""
        return ClaimNames(self.jwt_tenant_claim, self.jwt_tier_claim, self.jwt_scope_claim, frozenset(self.jwt_tiers))

    @property
    def database(self) -> str:
        """The address in force."""
        return self.database_url or addresses.of_file(self.data / "ratelimiter.db")
