"""Jobs and what belongs to them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

WORD = sa.String().with_variant(sa.String(collation="C"), "postgresql")
LONG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
OPEN = sa.text("state IN ('QUEUED', 'RUNNING')")
TABLES = ("jobs", "job_images", "attempts", "job_events", "outbox", "blobs", "documents", "leader")


def upgrade() -> None:
    """Apply it."""
    _create_jobs()
    _create_job_images()
    _create_attempts()
    _create_job_events()
    _create_outbox()
    _create_blobs()
    _create_documents()
    _create_leader()


def downgrade() -> None:
    """Undo it."""
    for table in TABLES:
        op.drop_table(table)


def _create_jobs() -> None:
    op.create_table(
        "jobs",
        sa.Column("id", WORD, nullable=False),
        sa.Column("tenant_id", WORD, nullable=False),
        sa.Column("tier", sa.String(), nullable=False),
        sa.Column("key_id", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("model_version", sa.String(), nullable=False),
        sa.Column("spec", sa.JSON(), nullable=False),
        sa.Column("estimated_units", sa.Double(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("counted_attempts", sa.Integer(), nullable=False),
        sa.Column("worker", sa.String(), nullable=False),
        sa.Column("request_id", sa.String(), nullable=True),
        sa.Column("request_digest", sa.String(), nullable=False),
        sa.Column("traceparent", sa.String(), nullable=False),
        *_job_progress_columns(),
        sa.PrimaryKeyConstraint("id", name="pk_jobs"),
        sa.UniqueConstraint("tenant_id", "request_id", name="uq_jobs_tenant_id_request_id"),
    )
    op.create_index("ix_jobs_tenant_id_id", "jobs", ["tenant_id", "id"])
    op.create_index("ix_jobs_open", "jobs", ["created_at", "id"], sqlite_where=OPEN, postgresql_where=OPEN)


def _job_progress_columns() -> tuple[sa.Column[object], ...]:
    return (
        sa.Column("deadline_at", sa.Double(), nullable=True),
        sa.Column("not_before", sa.Double(), nullable=False),
        sa.Column("cancel_requested", sa.Boolean(), nullable=False),
        sa.Column("started_at", sa.Double(), nullable=True),
        sa.Column("finished_at", sa.Double(), nullable=True),
        sa.Column("expires_at", sa.Double(), nullable=True),
        sa.Column("queued_at", sa.Double(), nullable=False),
        sa.Column("actual_units", sa.Double(), nullable=False),
        sa.Column("charged_units", sa.Double(), nullable=False),
        sa.Column("charge_reason", sa.String(), nullable=False),
        sa.Column("failure", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("stages", sa.JSON(), nullable=False),
        sa.Column("deleted", sa.Boolean(), nullable=False),
    )


def _create_job_images() -> None:
    op.create_table(
        "job_images",
        sa.Column("job_id", WORD, nullable=False),
        sa.Column("index", sa.Integer(), nullable=False),
        sa.Column("sha256", WORD, nullable=False),
        sa.Column("content_type", sa.String(), nullable=False),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("height", sa.Integer(), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("job_id", "index", name="pk_job_images"),
    )
    op.create_index("ix_job_images_sha256", "job_images", ["sha256"])


def _create_attempts() -> None:
    op.create_table(
        "attempts",
        sa.Column("job_id", WORD, nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("worker", sa.String(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("outcome", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("started_at", sa.Double(), nullable=False),
        sa.Column("ended_at", sa.Double(), nullable=True),
        sa.Column("gpu_ms", sa.Double(), nullable=False),
        sa.Column("traceparent", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("job_id", "attempt", name="pk_attempts"),
    )


def _create_job_events() -> None:
    op.create_table(
        "job_events",
        sa.Column("job_id", WORD, nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("time", sa.Double(), nullable=False),
        sa.Column("payload", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("job_id", "seq", name="pk_job_events"),
    )


def _create_outbox() -> None:
    op.create_table(
        "outbox",
        sa.Column("id", LONG, autoincrement=True, nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("payload", sa.JSON(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("due_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_outbox"),
    )


def _create_blobs() -> None:
    op.create_table(
        "blobs",
        sa.Column("sha256", WORD, nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("sha256", name="pk_blobs"),
    )
    op.create_index("ix_blobs_expires_at", "blobs", ["expires_at"])


def _create_documents() -> None:
    op.create_table(
        "documents",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("body", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_documents"),
    )


def _create_leader() -> None:
    table = op.create_table(
        "leader",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("holder", sa.String(), nullable=False),
        sa.Column("updated_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_leader"),
    )
    op.bulk_insert(table, [{"id": 1, "epoch": 0, "holder": "", "updated_at": 0.0}])
