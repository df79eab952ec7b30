"""What the scheduler takes from the environment."""

from __future__ import annotations

from dataclasses import dataclass, field

from libs import settings
from libs.rpc.process import ProcessSettings
from libs.sql import addresses
from services.scheduler.attempts import run_limit
from services.scheduler.devices.book import DeviceCosts
from services.scheduler.order import shares
from services.scheduler.results.keeping import RECORD_LIFE_S, RESULT_LIFE_S, Keeping


def _are_addresses(values: tuple[str, ...]) -> str | None:
    if not values:
        return "must name at least one host:port"
    return next((complaint for value in values if (complaint := settings.is_address(value))), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(ProcessSettings):
    """Settings of the scheduler."""

    limiter_address: str = field(metadata={"check": settings.is_address})
    """host:port of the rate limiter."""
    etcd_endpoints: tuple[str, ...] = field(metadata={"check": _are_addresses})
    """host:port of etcd's members, separated by commas."""
    database_url: str = field(default="", metadata={"check": addresses.is_database_url, "secret": True})
    """sqlite+aiosqlite:///FILE or postgresql+asyncpg://…; by default scheduler.db in the data folder."""
    lease_ttl_s: int = field(default=5, metadata={"check": settings.is_positive})
    """Seconds after which a leader that says nothing may be replaced; only replicas on PostgreSQL take turns."""
    scaler_listen: str = field(default="", metadata={"check": settings.is_address_or_empty})
    """host:port of the listener for KEDA, which needs no token; empty switches it off."""
    max_run_s: tuple[str, ...] = field(default=(), metadata={"check": settings.is_read_by(run_limit.parse)})
    """Most seconds that a job may draw, as MODEL=S, TIER=S or MODEL/TIER=S with commas; else 20 times its estimate."""
    tier_weights: tuple[str, ...] = field(default=shares.WEIGHTS, metadata={"check": settings.is_read_by(shares.read)})
    """What the tiers weigh against each other, TIER=NUMBER separated by commas; others keep their defaults."""
    tier_waits_s: tuple[str, ...] = field(default=shares.WAITS_S, metadata={"check": settings.is_read_by(shares.read)})
    """How long a job of a tier should wait at most before it may use the lane, TIER=SECONDS."""
    reference_device: str = ""
    """Class of device whose milliseconds are units, `cpu` or a GPU's name, for the models it serves; by default the first that served a model."""
    blobs: str = ""
    """Folder or s3://… of the pictures; by default `blobs` in the data folder."""
    result_life_s: int = field(default=int(RESULT_LIFE_S), metadata={"check": settings.is_positive})
    """Seconds that pictures are kept."""
    record_life_s: int = field(default=int(RECORD_LIFE_S), metadata={"check": settings.is_positive})
    """Seconds that ended jobs with their events are kept."""
    cache_scope: str = field(default="global", metadata={"check": settings.one_of("global", "tenant")})
    """`global`: a job may be answered by another tenant's that draws the same from text; `tenant`: never."""
    cost_per_device_hour: float = field(default=0.0, metadata={"check": settings.is_zero_or_more})
    """What an hour of a device costs, in the currency that the operator reckons in; `darkroom cost` goes by it."""
    device_kw: float = field(default=0.0, metadata={"check": settings.is_zero_or_more})
    """Kilowatts that a device draws with its share of the machine."""
    cost_per_kwh: float = field(default=0.0, metadata={"check": settings.is_zero_or_more})
    """What a kilowatt-hour costs."""

    @property
    def device_costs(self) -> DeviceCosts:
        """What the devices' time costs."""
        return DeviceCosts(self.cost_per_device_hour, self.device_kw, self.cost_per_kwh)

    @property
    def keeping(self) -> Keeping:
        """How long what is kept, and for whom."""
        return Keeping(self.result_life_s, self.record_life_s, self.cache_scope == "tenant")

    @property
    def run_limits(self) -> run_limit.RunLimits:
        """How long jobs may draw."""
        return run_limit.parse(self.max_run_s)

    @property
    def shares(self) -> shares.Shares:
        """What the order of the queue goes by."""
        return shares.given(self.tier_weights, self.tier_waits_s)

    @property
    def database(self) -> str:
        """Where jobs are kept."""
        return self.database_url or addresses.of_file(self.data / "scheduler.db")

    @property
    def blob_place(self) -> str:
        """Where the pictures are."""
        return self.blobs or str(self.data / "blobs")
