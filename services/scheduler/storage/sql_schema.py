"""The scheduler's tables, the same on SQLite and PostgreSQL. Times are Unix seconds as doubles.

A change here needs a revision in `migrations/versions`; a test compares the two on both databases.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Double,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    UniqueConstraint,
    text,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)
Word = String().with_variant(String(collation="C"), "postgresql")  # ids are ordered by bytes, as on SQLite
Long = BigInteger().with_variant(Integer(), "sqlite")  # SQLite counts up only on INTEGER keys
CACHEABLE, DEAD, DRAWN_BY = text("cache_key != ''"), text("dead_at IS NOT NULL"), text("drawn_by != ''")
TOLD_LATER = text("due_at IS NOT NULL")
OPEN = text("state IN ('QUEUED', 'RUNNING')")  # in these words, so that planners see which index fits

jobs = Table(
    "jobs",
    metadata,
    Column("id", Word, primary_key=True),
    Column("tenant_id", Word, nullable=False),
    Column("tier", String, nullable=False),
    Column("key_id", String, nullable=False),
    Column("model", String, nullable=False),
    Column("model_version", String, nullable=False),
    Column("spec", JSON, nullable=False),
    Column("estimated_units", Double, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("state", String, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("counted_attempts", Integer, nullable=False),
    Column("worker", String, nullable=False),
    Column("request_id", String),  # NULL when there is none, so that it is unique only where there is one
    Column("request_digest", String, nullable=False),
    Column("traceparent", String, nullable=False),
    Column("deadline_at", Double),
    Column("not_before", Double, nullable=False),
    Column("cancel_requested", Boolean, nullable=False),
    Column("started_at", Double),
    Column("finished_at", Double),
    Column("expires_at", Double),
    Column("queued_at", Double, nullable=False),
    Column("actual_units", Double, nullable=False),
    Column("charged_units", Double, nullable=False),
    Column("charge_reason", String, nullable=False),
    Column("failure", JSON(none_as_null=True)),
    Column("stages", JSON, nullable=False),
    Column("deleted", Boolean, nullable=False),
    Column("tenant_weight", Double, nullable=False, server_default="1"),
    Column("cache_key", Word, nullable=False, server_default=""),
    Column("cache", String, nullable=False, server_default="MISS"),
    Column("drawn_by", Word, nullable=False, server_default=""),
    Column("downgraded_from", String, nullable=False, server_default=""),
    Column("dead_at", Double),
    Column("fresh_after", Integer, nullable=False, server_default="0"),
    Column("revivals", Integer, nullable=False, server_default="0"),
    Column("run_of", Word, nullable=False, server_default=""),
    Column("run_attempt", Integer, nullable=False, server_default="0"),
    Column("running_images", Integer),
    Column("address", String, nullable=False, server_default=""),
    UniqueConstraint("tenant_id", "request_id"),
    Index("ix_jobs_tenant_id_id", "tenant_id", "id"),
    Index("ix_jobs_open", "created_at", "id", sqlite_where=OPEN, postgresql_where=OPEN),
    Index("ix_jobs_cache_key", "cache_key", sqlite_where=CACHEABLE, postgresql_where=CACHEABLE),
    Index("ix_jobs_drawn_by", "drawn_by", sqlite_where=DRAWN_BY, postgresql_where=DRAWN_BY),
    Index("ix_jobs_dead_at", "dead_at", sqlite_where=DEAD, postgresql_where=DEAD),
    Index("ix_jobs_finished_at", "finished_at"),
)
job_images = Table(
    "job_images",
    metadata,
    Column("job_id", Word, primary_key=True),
    Column("index", Integer, primary_key=True),
    Column("sha256", Word, nullable=False, index=True),
    Column("content_type", String, nullable=False),
    Column("width", Integer, nullable=False),
    Column("height", Integer, nullable=False),
    Column("seed", BigInteger, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
)
attempts = Table(
    "attempts",
    metadata,
    Column("job_id", Word, primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column("worker", String, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("outcome", String, nullable=False),
    Column("reason", String, nullable=False),
    Column("started_at", Double, nullable=False),
    Column("ended_at", Double),
    Column("gpu_ms", Double, nullable=False),
    Column("traceparent", String, nullable=False),
    Column("checkpoint_ref", String, nullable=False, server_default=""),
    Column("checkpoint_step", Integer, nullable=False, server_default="0"),
)
job_events = Table(
    "job_events",
    metadata,
    Column("job_id", Word, primary_key=True),
    Column("seq", Integer, primary_key=True),
    Column("kind", String, nullable=False),
    Column("time", Double, nullable=False),
    Column("payload", JSON, nullable=False),
)
outbox = Table(
    "outbox",
    metadata,
    Column("id", Long, primary_key=True, autoincrement=True),
    Column("kind", String, nullable=False),
    Column("payload", JSON, nullable=False),
    Column("tries", Integer, nullable=False),
    Column("due_at", Double, nullable=False),
)
webhook_deliveries = Table(
    "webhook_deliveries",
    metadata,
    Column("job_id", Word, primary_key=True),
    Column("seq", Integer, primary_key=True),  # of the event in job_events
    Column("tenant_id", Word, nullable=False),
    Column("url", String, nullable=False),
    Column("host", String, nullable=False),
    Column("kind", String, nullable=False),
    Column("time", Double, nullable=False),
    Column("state", String, nullable=False),
    Column("detail", JSON, nullable=False),  # what else its receiver is told
    Column("tries", Integer, nullable=False),
    Column("due_at", Double),  # NULL: it is over
    Column("fate", String, nullable=False),
    Column("status", Integer, nullable=False),
    Column("reason", String, nullable=False),
    Index("ix_webhook_deliveries_due_at", "due_at", sqlite_where=TOLD_LATER, postgresql_where=TOLD_LATER),
)
blobs = Table(
    "blobs",
    metadata,
    Column("sha256", Word, primary_key=True),
    Column("bytes", BigInteger, nullable=False),
    Column("expires_at", Double, index=True),  # NULL: kept until its last job goes
    Column("doomed_at", Double),  # since then its object is being removed, and no job may refer to it
    Column("removed_at", Double),  # the object is gone; what is drawn from then on is stored anew
)
documents = Table(
    "documents",
    metadata,
    Column("name", String, primary_key=True),
    Column("body", JSON, nullable=False),
)
notes = Table(  # for the leader, of jobs that other replicas accepted or want stopped
    "notes",
    metadata,
    Column("id", Long, primary_key=True, autoincrement=True),
    Column("job_id", Word, nullable=False),
)
leader = Table(
    "leader",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),  # one row, id 1, written by the first revision
    Column("epoch", BigInteger, nullable=False),
    Column("holder", String, nullable=False),
    Column("cluster_id", String, nullable=False, server_default=""),  # of the etcd that suggested the holder
    Column("revision", BigInteger, nullable=False, server_default="0"),  # of its election there
    Column("address", String, nullable=False, server_default=""),  # of the holder's listener, for the standbys
    Column("updated_at", Double, nullable=False),
)
