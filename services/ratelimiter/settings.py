"""What this process takes from the environment."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from libs import settings
from libs.rpc.process import ProcessSettings
from libs.sql import addresses
from services.ratelimiter import policy


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(ProcessSettings):
    """The common ones, and these."""

    database_url: str = field(default="", metadata={"check": addresses.is_database_url, "secret": True})
    """SQLAlchemy address of the database; by default the SQLite file `ratelimiter.db` in the data folder."""
    tiers: Path = field(default=Path(), metadata={"check": policy.complaint})
    """The file of the tiers; by default `tiers.toml` in the data folder, and while there is none the shipped one."""
    reservation_ttl_s: float = field(default=60.0, metadata={"check": settings.is_positive})
    """Seconds after which a reservation that nobody confirmed is given back."""
    lease_s: float = field(default=120.0, metadata={"check": settings.is_positive})
    """Seconds for which pictures in flight keep their place; the scheduler renews it every 30 s for open jobs."""

    @property
    def database(self) -> str:
        """The address in force."""
        return self.database_url or addresses.of_file(self.data / "ratelimiter.db")
