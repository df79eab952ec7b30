"""What is agreed with tenants, their money, and usage added up by day."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_SUMS = ("gpu_ms", "actual_units", "charged_units")
# What was settled before this version, added up as `sql_usage` does it.
_ADD_UP = """
INSERT INTO usage_days
  (day, tenant_id, key_id, model_version, outcome, jobs, images, gpu_ms, actual_units, charged_units, micros)
SELECT CAST({floor}(settled_at / 86400.0) AS INTEGER), tenant_id, key_id, model_version, outcome,
  COUNT(*), SUM(images), SUM(gpu_ms), SUM(actual_units), SUM(charged_units), 0
FROM usage GROUP BY 1, 2, 3, 4, 5
"""


def upgrade() -> None:
    """Make the tables and fill the days from what was settled before."""
    op.add_column("usage", sa.Column("micros", sa.BigInteger, nullable=False, server_default="0"))
    _create_usage_days()
    _create_agreements()
    _create_wallets()
    floor = "" if op.get_bind().dialect.name == "sqlite" else "FLOOR"  # a cast cuts off there, and rounds elsewhere
    op.execute(_ADD_UP.format(floor=floor))


def downgrade() -> None:
    """Drop the tables."""
    for table in ("wallet_credits", "wallet_holds", "wallets", "tenant_events", "agreements", "usage_days"):
        op.drop_table(table)
    op.drop_column("usage", "micros")


def _create_usage_days() -> None:
    op.create_table(
        "usage_days",
        sa.Column("day", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("tenant_id", sa.Text, primary_key=True),
        sa.Column("key_id", sa.String(64), primary_key=True),
        sa.Column("model_version", sa.Text, primary_key=True),
        sa.Column("outcome", sa.String(16), primary_key=True),
        sa.Column("jobs", sa.BigInteger, nullable=False),
        sa.Column("images", sa.BigInteger, nullable=False),
        *(sa.Column(name, sa.Double, nullable=False) for name in _SUMS),
        sa.Column("micros", sa.BigInteger, nullable=False),
    )
    op.create_index("usage_days_by_tenant", "usage_days", ["tenant_id", "day"])


def _create_agreements() -> None:
    op.create_table(
        "agreements",
        sa.Column("tenant_id", sa.Text, primary_key=True),
        sa.Column("key_id", sa.String(64), primary_key=True),
        sa.Column("fields", sa.Text, nullable=False),
        sa.Column("verified", sa.Boolean, nullable=False),
        sa.Column("changed_at", sa.Double, nullable=False),
    )
    op.create_index("agreements_by_change", "agreements", ["changed_at"])
    op.create_table(
        "tenant_events",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("tenant_id", sa.Text, nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("at", sa.Double, nullable=False),
    )
    op.create_index("tenant_events_by_tenant", "tenant_events", ["tenant_id", "id"])


def _create_wallets() -> None:
    op.create_table(
        "wallets",
        sa.Column("tenant_id", sa.Text, primary_key=True),
        sa.Column("balance_micros", sa.BigInteger, nullable=False),
        sa.Column("held_micros", sa.BigInteger, nullable=False),
        sa.Column("spent_micros", sa.BigInteger, nullable=False),
        sa.Column("spent_month", sa.Integer, nullable=False),
        sa.Column("cap_micros", sa.BigInteger),
    )
    op.create_table(
        "wallet_holds",
        sa.Column("reservation_id", sa.String(64), primary_key=True),
        sa.Column("tenant_id", sa.Text, nullable=False),
        sa.Column("micros", sa.BigInteger, nullable=False),
        sa.Column("confirmed", sa.Boolean, nullable=False),
        sa.Column("made_at", sa.Double, nullable=False),
    )
    op.create_index("wallet_holds_by_age", "wallet_holds", ["confirmed", "made_at"])
    op.create_table(
        "wallet_credits",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("tenant_id", sa.Text, nullable=False),
        sa.Column("micros", sa.BigInteger, nullable=False),
        sa.Column("note", sa.Text, nullable=False),
        sa.Column("at", sa.Double, nullable=False),
    )
