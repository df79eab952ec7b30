"""What the gateway takes from the environment."""

from __future__ import annotations

from dataclasses import dataclass, field

from libs import settings
from libs.rpc.process import ProcessSettings
from services.gateway.webhooks.destinations import Destinations

AFTER_RESERVE = "after_reserve"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(ProcessSettings):
    """Settings of the gateway."""

    scheduler_address: str = field(metadata={"check": settings.are_replicas})
    """host:port of the scheduler; of several replicas IPv4 addresses, separated by commas."""
    limiter_address: str = field(metadata={"check": settings.is_address})
    """host:port of the rate limiter."""
    blobs: str = ""
    """Folder or s3://… of the pictures; by default `blobs` in the data folder."""
    webhook_insecure: bool = False
    """Webhooks may also go to http addresses and into private networks: for tests and rehearsal."""
    failpoint: str = field(default="", metadata={"check": settings.one_of("", AFTER_RESERVE), "tests_only": True})
    """For fault tests: where the process dies at once. `after_reserve`: between Reserve and Submit."""

    @property
    def destinations(self) -> Destinations:
        """Where webhooks may go."""
        return Destinations(self.webhook_insecure)

    @property
    def blob_place(self) -> str:
        """Where the pictures are."""
        return self.blobs or str(self.data / "blobs")
