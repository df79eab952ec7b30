"""Events as text/event-stream. Durable ones carry an `id`; `data` is one JSON object on one line.

event: progress
data: {"job_id": "job_01…", "time": "…", "attempt": 1, "step": 3, "total": 20, "eta_s": 0.4}
"""

from __future__ import annotations

import json
from typing import Any

from google.protobuf import json_format
from google.protobuf.message import Message
from google.rpc import error_details_pb2

from darkroom.v1 import job_pb2
from libs.errors import DarkroomError
from libs.rpc.status import to_status

CONTENT_TYPE = "text/event-stream"
KEEPALIVE = b": keepalive\n\n"
OPENING = b"retry: 1000\n\n"  # milliseconds until a browser reconnects; also makes the headers leave at once
KEEPALIVE_S = 15.0

# The details of a failed job's status are packed messages; JSON needs their types to be known to this process.
_DETAIL_TYPES = (error_details_pb2.ErrorInfo, error_details_pb2.RetryInfo, error_details_pb2.BadRequest)


def frame(event: job_pb2.JobEvent) -> bytes:
    """Return one event."""
    kind = event.WhichOneof("event") or "unknown"
    head: dict[str, Any] = {"job_id": event.job_id, "time": event.time.ToJsonString()}
    if event.sequence:
        head["sequence"] = event.sequence
    payload = _document(getattr(event, kind)) if event.WhichOneof("event") else {}
    return _frame(kind, {**head, **payload}, event.sequence)


def error_frame(error: DarkroomError) -> bytes:
    """Return the event that says why a stream cannot go on, in the shape of an error body."""
    return _frame("error", _document(to_status(error)), 0)


def last_event_id(value: str) -> int:
    """Return the sequence in a Last-Event-ID header; 0 when there is none that we sent."""
    return int(value) if value.isascii() and value.isdecimal() and len(value) < 10 else 0


def _frame(name: str, document: dict[str, Any], sequence: int) -> bytes:
    identity = f"id: {sequence}\n" if sequence else ""
    data = json.dumps(document, separators=(",", ":"))
    return f"event: {name}\n{identity}data: {data}\n\n".encode()


def _document(message: Message) -> dict[str, Any]:
    return json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
