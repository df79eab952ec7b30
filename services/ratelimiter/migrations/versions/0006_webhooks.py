"""Addresses that tenants have their events sent to, and the deliveries."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "webhook_endpoints",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("tenant_id", sa.Text, nullable=False),
        sa.Column("url", sa.Text, nullable=False),
        sa.Column("host", sa.Text, nullable=False),
        sa.Column("kinds", sa.Text, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("disabled_at", sa.Double),
    )
    op.create_index("webhook_endpoints_by_tenant", "webhook_endpoints", ["tenant_id"])
    _create_deliveries()


def downgrade() -> None:
    """Drop the tables."""
    for table in ("event_deliveries", "webhook_endpoints"):
        op.drop_table(table)


def _create_deliveries() -> None:
    op.create_table(
        "event_deliveries",
        sa.Column("event_id", sa.String(64), primary_key=True),
        sa.Column("endpoint_id", sa.String(64), primary_key=True),
        sa.Column("tenant_id", sa.Text, nullable=False),
        sa.Column("url", sa.Text, nullable=False),
        sa.Column("host", sa.Text, nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("time", sa.Double, nullable=False),
        sa.Column("tries", sa.Integer, nullable=False),
        sa.Column("due_at", sa.Double),
        sa.Column("fate", sa.String(16), nullable=False),
        sa.Column("status", sa.Integer, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
    )
    op.create_index("event_deliveries_by_endpoint", "event_deliveries", ["endpoint_id", "time"])
    waits = sa.text("due_at IS NOT NULL")
    op.create_index("event_deliveries_due", "event_deliveries", ["due_at"], sqlite_where=waits, postgresql_where=waits)
