"""The tables. Times are Unix seconds as doubles, so both databases read back what was written."""

from __future__ import annotations

from sqlalchemy import Column, Double, ForeignKey, Index, Integer, LargeBinary, MetaData, String, Table, Text

VERSION_TABLE = "ratelimiter_version"  # its own: the scheduler's history may live in the same database


def build() -> MetaData:
    """Return the schema that the migrations lead to."""
    metadata = MetaData()
    _add_accounts(metadata)
    _add_usage(metadata)
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
        Column("reserved_at", Double),
        Column("settled_at", Double, nullable=False),
        Index("usage_by_time", "settled_at"),
    )
