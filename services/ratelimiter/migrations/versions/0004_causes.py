"""Why a job was charged what it was, and what of the day it used: for the counters after a restart."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_COLUMNS = ("cause", "address", "reserved_images", "day_images")


def upgrade() -> None:
    """Add the columns; of earlier rows the outcome says the cause, and their pictures count."""
    op.add_column("usage", sa.Column("cause", sa.String(16), nullable=False, server_default="succeeded"))
    op.add_column("usage", sa.Column("address", sa.Text, nullable=False, server_default=""))
    op.add_column("usage", sa.Column("reserved_images", sa.Integer, nullable=False, server_default="0"))
    op.add_column("usage", sa.Column("day_images", sa.Integer, nullable=False, server_default="0"))
    op.execute("UPDATE usage SET reserved_images = images, day_images = images")
    for outcome, cause in (("failed", "platform"), ("cancelled", "cancelled"), ("expired", "expired")):
        op.execute(
            sa.text("UPDATE usage SET cause = :cause WHERE outcome = :outcome").bindparams(cause=cause, outcome=outcome)
        )


def downgrade() -> None:
    """Drop them."""
    for name in _COLUMNS:
        op.drop_column("usage", name)
