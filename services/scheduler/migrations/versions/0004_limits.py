"""What the limiter says of a job's owner: how much may run at once, and the address that its pictures count at."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply it."""
    op.add_column("jobs", sa.Column("running_images", sa.Integer()))
    op.add_column("jobs", sa.Column("address", sa.String(), nullable=False, server_default=""))


def downgrade() -> None:
    """Undo it."""
    for column in ("address", "running_images"):
        op.drop_column("jobs", column)
