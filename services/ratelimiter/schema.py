"""The tables. Times are Unix seconds as doubles, so both databases read back what was written."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)

VERSION_TABLE = "ratelimiter_version"  # its own: the scheduler's history may live in the same database


def build() -> MetaData:
    """Return the schema that the migrations lead to."""
    metadata = MetaData()
    _add_accounts(metadata)
    _add_usage(metadata)
    _add_usage_days(metadata)
    _add_agreements(metadata)
    _add_wallets(metadata)
    _add_sign_ups(metadata)
    _add_webhooks(metadata)
    return metadata


def _add_accounts(metadata: MetaData) -> None:
    Table(
        "tenants",
        metadata,
        Column("id", Text, primary_key=True),
        Column("tier", String(32), nullable=False),
        Column("created_at", Double, nullable=False),
    )
    Table(
        "api_keys",
        metadata,
        Column("id", String(64), primary_key=True),
        Column("tenant_id", Text, ForeignKey("tenants.id"), nullable=False),
        Column("prefix", String(16), nullable=False),
        Column("sha256", LargeBinary, nullable=False, unique=True),
        Column("name", Text, nullable=False),
        Column("created_at", Double, nullable=False),
        Column("revoked_at", Double),
        Column("last_used_at", Double),
        Column("scopes", Text, nullable=False),
        Column("expires_at", Double),
        Column("replaced_by", String(64)),
        Index("api_keys_by_tenant", "tenant_id"),
    )


def _add_usage(metadata: MetaData) -> None:
    Table(
        "usage",
        metadata,
        Column("job_id", String(64), primary_key=True),
        Column("tenant_id", Text, nullable=False),
        Column("tier", String(32), nullable=False),
        Column("key_id", String(64), nullable=False),
        Column("model_version", Text, nullable=False),
        Column("outcome", String(16), nullable=False),
        Column("images", Integer, nullable=False),
        Column("reserved_units", Double, nullable=False),
        Column("actual_units", Double, nullable=False),
        Column("charged_units", Double, nullable=False),
        Column("gpu_ms", Double, nullable=False),
        Column("micros", BigInteger, nullable=False, server_default="0"),
        Column("reserved_at", Double),
        Column("settled_at", Double, nullable=False),
        Column("cause", String(16), nullable=False, server_default="succeeded"),
        Column("address", Text, nullable=False, server_default=""),
        Column("reserved_images", Integer, nullable=False, server_default="0"),
        Column("day_images", Integer, nullable=False, server_default="0"),
        Index("usage_by_time", "settled_at"),
    )


def _add_usage_days(metadata: MetaData) -> None:
    """Usage added up; `day` is in days of UTC since 1970."""
    Table(
        "usage_days",
        metadata,
        Column("day", Integer, primary_key=True, autoincrement=False),
        Column("tenant_id", Text, primary_key=True),
        Column("key_id", String(64), primary_key=True),
        Column("model_version", Text, primary_key=True),
        Column("outcome", String(16), primary_key=True),
        Column("jobs", BigInteger, nullable=False),
        Column("images", BigInteger, nullable=False),
        Column("gpu_ms", Double, nullable=False),
        Column("actual_units", Double, nullable=False),
        Column("charged_units", Double, nullable=False),
        Column("micros", BigInteger, nullable=False),
        Index("usage_days_by_tenant", "tenant_id", "day"),
    )


def _add_agreements(metadata: MetaData) -> None:
    """What holds for a tenant, or with a key for that key, beside its tier; `fields` is JSON."""
    Table(
        "agreements",
        metadata,
        Column("tenant_id", Text, primary_key=True),
        Column("key_id", String(64), primary_key=True),
        Column("fields", Text, nullable=False),
        Column("verified", Boolean, nullable=False),
        Column("changed_at", Double, nullable=False),
        Index("agreements_by_change", "changed_at"),
    )
    Table(
        "tenant_events",
        metadata,
        Column("id", String(64), primary_key=True),
        Column("tenant_id", Text, nullable=False),
        Column("kind", String(32), nullable=False),
        Column("message", Text, nullable=False),
        Column("at", Double, nullable=False),
        Index("tenant_events_by_tenant", "tenant_id", "id"),
    )


def _add_wallets(metadata: MetaData) -> None:
    """Prepaid money in millionths. `spent_micros` is that of `spent_month`, like 202611; a hold waits for its job."""
    Table(
        "wallets",
        metadata,
        Column("tenant_id", Text, primary_key=True),
        Column("balance_micros", BigInteger, nullable=False),
        Column("held_micros", BigInteger, nullable=False),
        Column("spent_micros", BigInteger, nullable=False),
        Column("spent_month", Integer, nullable=False),
        Column("cap_micros", BigInteger),
    )
    Table(
        "wallet_holds",
        metadata,
        Column("reservation_id", String(64), primary_key=True),
        Column("tenant_id", Text, nullable=False),
        Column("micros", BigInteger, nullable=False),
        Column("confirmed", Boolean, nullable=False),
        Column("made_at", Double, nullable=False),
        Index("wallet_holds_by_age", "confirmed", "made_at"),
    )
    Table(
        "wallet_credits",
        metadata,
        Column("id", String(64), primary_key=True),
        Column("tenant_id", Text, nullable=False),
        Column("micros", BigInteger, nullable=False),
        Column("note", Text, nullable=False),
        Column("at", Double, nullable=False),
    )


def _add_sign_ups(metadata: MetaData) -> None:
    """Invites by the hash of their code, and the accounts that an address made on a day, counted from 1970."""
    Table(
        "invites",
        metadata,
        Column("sha256", LargeBinary, primary_key=True),
        Column("uses_left", Integer, nullable=False),
        Column("created_at", Double, nullable=False),
        Column("expires_at", Double),
        Column("name", Text, nullable=False),
    )
    Table(
        "sign_ups",
        metadata,
        Column("address", Text, primary_key=True),
        Column("day", Integer, primary_key=True),
        Column("accounts", Integer, nullable=False),
    )


def _add_webhooks(metadata: MetaData) -> None:
    """Addresses that events are sent to, `kinds` with spaces between them, and what is sent; `due_at` ends with NULL."""
    Table(
        "webhook_endpoints",
        metadata,
        Column("id", String(64), primary_key=True),
        Column("tenant_id", Text, nullable=False),
        Column("url", Text, nullable=False),
        Column("host", Text, nullable=False),
        Column("kinds", Text, nullable=False),
        Column("created_at", Double, nullable=False),
        Column("disabled_at", Double),
        Index("webhook_endpoints_by_tenant", "tenant_id"),
    )
    deliveries = Table(
        "event_deliveries",
        metadata,
        Column("event_id", String(64), primary_key=True),
        Column("endpoint_id", String(64), primary_key=True),
        Column("tenant_id", Text, nullable=False),
        Column("url", Text, nullable=False),
        Column("host", Text, nullable=False),
        Column("kind", String(32), nullable=False),
        Column("message", Text, nullable=False),
        Column("time", Double, nullable=False),
        Column("tries", Integer, nullable=False),
        Column("due_at", Double),
        Column("fate", String(16), nullable=False),
        Column("status", Integer, nullable=False),
        Column("reason", Text, nullable=False),
        Index("event_deliveries_by_endpoint", "endpoint_id", "time"),
    )
    waits = deliveries.c.due_at.is_not(None)
    Index("event_deliveries_due", deliveries.c.due_at, sqlite_where=waits, postgresql_where=waits)
