"""Tenants, keys and usage."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "tenants",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("tier", sa.String(32), nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
    )
    op.create_table(
        "api_keys",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("tenant_id", sa.Text, sa.ForeignKey("tenants.id"), nullable=False),
        sa.Column("prefix", sa.String(16), nullable=False),
        sa.Column("sha256", sa.LargeBinary, nullable=False, unique=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("revoked_at", sa.Double),
        sa.Column("last_used_at", sa.Double),
    )
    op.create_index("api_keys_by_tenant", "api_keys", ["tenant_id"])
    _create_usage()


def downgrade() -> None:
    """Drop the tables."""
    for table in ("usage", "api_keys", "tenants"):
        op.drop_table(table)


def _create_usage() -> None:
    op.create_table(
        "usage",
        sa.Column("job_id", sa.String(64), primary_key=True),
        sa.Column("tenant_id", sa.Text, nullable=False),
        sa.Column("tier", sa.String(32), nullable=False),
        sa.Column("key_id", sa.String(64), nullable=False),
        sa.Column("model_version", sa.Text, nullable=False),
        sa.Column("outcome", sa.String(16), nullable=False),
        sa.Column("images", sa.Integer, nullable=False),
        sa.Column("reserved_units", sa.Double, nullable=False),
        sa.Column("actual_units", sa.Double, nullable=False),
        sa.Column("charged_units", sa.Double, nullable=False),
        sa.Column("gpu_ms", sa.Double, nullable=False),
        sa.Column("reserved_at", sa.Double),
        sa.Column("settled_at", sa.Double, nullable=False),
    )
    op.create_index("usage_by_time", "usage", ["settled_at"])
