"""Rows ⇄ jobs and their parts. Column names are field names; what differs is said here."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import RowMapping

from libs.generation.attempt import ImageStored, StageDone
from libs.wire.spec import spec_from_json, spec_to_json
from services.scheduler.job import AttemptRecord, DurableEvent, Failure, Job, JobState
from services.scheduler.storage.changes import AttemptEnd
from services.scheduler.storage.store import PendingMessage

Values = dict[str, Any]

_PLAIN = tuple(
    field.name
    for field in dataclasses.fields(Job)
    if field.name not in ("spec", "state", "request_id", "failure", "stages", "images")
)
_REPEATED = (
    "tenant_id",
    "tier",
    "key_id",
    "model",
    "model_version",
    "address",
)  # many jobs have the same: they share a string
_IMAGE = tuple(field.name for field in dataclasses.fields(ImageStored))
_ATTEMPT = tuple(field.name for field in dataclasses.fields(AttemptRecord))
_ATTEMPT_END = tuple(field.name for field in dataclasses.fields(AttemptEnd))
_STAGE = tuple(field.name for field in dataclasses.fields(StageDone))


def job_values(job: Job) -> Values:
    """Return the row of a job; its images have rows of their own."""
    made = {name: make(job) for name, make in _MADE.items()}
    return {name: getattr(job, name) for name in _PLAIN} | made | {"deleted": False}


def changed_values(before: Job, job: Job) -> Values:
    """Return what a change of a job changes in its row: few of the columns, and seldom the large ones."""
    changed = {name for name in (*_PLAIN, *_MADE) if getattr(job, name) is not getattr(before, name)}
    made = {name: make(job) for name, make in _MADE.items() if name in changed}
    return {name: getattr(job, name) for name in _PLAIN if name in changed and name != "id"} | made


def job_of(row: RowMapping, images: Sequence[ImageStored] = ()) -> Job:
    """Return the job of a row and its images."""
    failure = row["failure"]
    return Job(
        **{name: row[name] for name in _PLAIN} | {name: sys.intern(row[name]) for name in _REPEATED},
        spec=spec_from_json(row["spec"]),
        state=JobState(row["state"]),
        request_id=row["request_id"] or "",
        failure=None if failure is None else Failure(**failure),
        images=tuple(images),
        stages=tuple(StageDone(**stage) for stage in row["stages"]),
    )


def image_values(job: Job) -> list[Values]:
    """Return the rows of a job's images."""
    return [_fields_of(image, _IMAGE) | {"job_id": job.id} for image in job.images]


def image_of(row: RowMapping) -> ImageStored:
    """Return the image of a row."""
    return ImageStored(**{name: row[name] for name in _IMAGE})


def attempt_of(row: RowMapping) -> AttemptRecord:
    """Return the attempt of a row."""
    return AttemptRecord(**{name: row[name] for name in _ATTEMPT})


def attempt_values(attempt: AttemptRecord) -> Values:
    """Return the row of an attempt."""
    return _fields_of(attempt, _ATTEMPT)


def attempt_end_values(end: AttemptEnd) -> Values:
    """Return what the end of an attempt changes in its row."""
    return _fields_of(end, _ATTEMPT_END)


def event_of(row: RowMapping) -> DurableEvent:
    """Return the event of a row."""
    return DurableEvent(**row)


def message_of(row: RowMapping) -> PendingMessage:
    """Return the outbox message of a row."""
    return PendingMessage(row["id"], row["kind"], row["payload"], row["tries"])


def _fields_of(part: object, names: Sequence[str]) -> Values:
    """Return a part of a job as a row; `dataclasses.asdict` copies what it finds, and takes ten times as long."""
    return {name: getattr(part, name) for name in names}


def _failure_values(failure: Failure | None) -> Values | None:
    if failure is None:
        return None
    return {"reason": failure.reason, "message": failure.message, "metadata": dict(failure.metadata)}


_MADE: Mapping[str, Callable[[Job], Any]] = {  # columns that hold something else than the field of their name
    "spec": lambda job: spec_to_json(job.spec),
    "state": lambda job: job.state.value,
    "request_id": lambda job: job.request_id or None,
    "failure": lambda job: _failure_values(job.failure),
    "stages": lambda job: [_fields_of(stage, _STAGE) for stage in job.stages],
}
