"""Invites, and how many accounts an address made today."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "invites",
        sa.Column("sha256", sa.LargeBinary, primary_key=True),
        sa.Column("uses_left", sa.Integer, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("expires_at", sa.Double),
        sa.Column("name", sa.Text, nullable=False),
    )
    op.create_table(
        "sign_ups",
        sa.Column("address", sa.Text, primary_key=True),
        sa.Column("day", sa.Integer, primary_key=True),
        sa.Column("accounts", sa.Integer, nullable=False),
    )


def downgrade() -> None:
    """Drop the tables."""
    for table in ("sign_ups", "invites"):
        op.drop_table(table)
