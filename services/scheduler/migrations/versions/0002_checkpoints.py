"""Where a running attempt can be gone on from."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply it."""
    op.add_column("attempts", sa.Column("checkpoint_ref", sa.String(), nullable=False, server_default=""))
    op.add_column("attempts", sa.Column("checkpoint_step", sa.Integer(), nullable=False, server_default="0"))


def downgrade() -> None:
    """Undo it."""
    op.drop_column("attempts", "checkpoint_step")
    op.drop_column("attempts", "checkpoint_ref")
