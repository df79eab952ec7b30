"""Shares of tenants, cached results, fallbacks, dead letters, webhooks, and who was elected where."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_WORD = sa.String().with_variant(sa.String(collation="C"), "postgresql")
_LONG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_CACHEABLE, _DEAD = sa.text("cache_key != ''"), sa.text("dead_at IS NOT NULL")
_DRAWN_BY, _TOLD_LATER = sa.text("drawn_by != ''"), sa.text("due_at IS NOT NULL")


def upgrade() -> None:
    """Apply it."""
    op.add_column("jobs", sa.Column("tenant_weight", sa.Double(), nullable=False, server_default="1"))
    op.add_column("jobs", sa.Column("cache_key", _WORD, nullable=False, server_default=""))
    op.add_column("jobs", sa.Column("cache", sa.String(), nullable=False, server_default="MISS"))
    op.add_column("jobs", sa.Column("drawn_by", _WORD, nullable=False, server_default=""))
    op.add_column("jobs", sa.Column("downgraded_from", sa.String(), nullable=False, server_default=""))
    op.add_column("jobs", sa.Column("dead_at", sa.Double()))
    op.add_column("jobs", sa.Column("fresh_after", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("jobs", sa.Column("revivals", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("jobs", sa.Column("run_of", _WORD, nullable=False, server_default=""))
    op.add_column("jobs", sa.Column("run_attempt", sa.Integer(), nullable=False, server_default="0"))
    op.create_index("ix_jobs_cache_key", "jobs", ["cache_key"], sqlite_where=_CACHEABLE, postgresql_where=_CACHEABLE)
    op.create_index("ix_jobs_drawn_by", "jobs", ["drawn_by"], sqlite_where=_DRAWN_BY, postgresql_where=_DRAWN_BY)
    op.create_index("ix_jobs_dead_at", "jobs", ["dead_at"], sqlite_where=_DEAD, postgresql_where=_DEAD)
    op.create_index("ix_jobs_finished_at", "jobs", ["finished_at"])
    op.add_column("blobs", sa.Column("doomed_at", sa.Double()))
    op.add_column("blobs", sa.Column("removed_at", sa.Double()))
    op.add_column("leader", sa.Column("cluster_id", sa.String(), nullable=False, server_default=""))
    op.add_column("leader", sa.Column("revision", sa.BigInteger(), nullable=False, server_default="0"))
    op.add_column("leader", sa.Column("address", sa.String(), nullable=False, server_default=""))
    op.create_table(
        "notes",
        sa.Column("id", _LONG, primary_key=True, autoincrement=True),
        sa.Column("job_id", _WORD, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_notes"),
    )
    _create_deliveries()


def downgrade() -> None:
    """Undo it."""
    op.drop_table("webhook_deliveries")
    op.drop_table("notes")
    for column in ("address", "revision", "cluster_id"):
        op.drop_column("leader", column)
    for column in ("removed_at", "doomed_at"):
        op.drop_column("blobs", column)
    for index in ("ix_jobs_finished_at", "ix_jobs_dead_at", "ix_jobs_drawn_by", "ix_jobs_cache_key"):
        op.drop_index(index, "jobs")
    for column in ("run_attempt", "run_of"):
        op.drop_column("jobs", column)
    jobs = ("revivals", "fresh_after", "dead_at", "downgraded_from", "drawn_by", "cache", "cache_key", "tenant_weight")
    for column in jobs:
        op.drop_column("jobs", column)


def _create_deliveries() -> None:
    op.create_table(
        "webhook_deliveries",
        sa.Column("job_id", _WORD, nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("tenant_id", _WORD, nullable=False),
        sa.Column("url", sa.String(), nullable=False),
        sa.Column("host", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("time", sa.Double(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("due_at", sa.Double()),
        sa.Column("fate", sa.String(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("job_id", "seq", name="pk_webhook_deliveries"),
    )
    due = "ix_webhook_deliveries_due_at"
    op.create_index(due, "webhook_deliveries", ["due_at"], sqlite_where=_TOLD_LATER, postgresql_where=_TOLD_LATER)
