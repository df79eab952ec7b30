"""Structured logs: one JSON object a line (or plain text), with the trace id of the running span.

Fields go in `extra`: `job_id`, `tenant_id`, `worker_id`, `key_id`, always under those names. Prompts are never
logged; `fingerprint` says enough to recognise one.
"""

from __future__ import annotations

import hashlib
import json
import logging
import sys
import time

from opentelemetry import trace

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def start(service: str, level: str, form: str) -> None:
    """Send this process's log to standard error; `form` is `json` or `text`."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(service) if form == "json" else TextFormatter(service))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for noisy in ("httpx", "asyncio", "alembic", "opentelemetry.exporter", "urllib3"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def fingerprint(text: str) -> dict[str, int | str]:
    """Return length and the start of the SHA-256 of a text that must not be logged itself."""
    return {"length": len(text), "sha256": hashlib.sha256(text.encode()).hexdigest()[:12]}


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line: dict[str, object] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "service": self._service,
            "logger": record.name,
            "message": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class TextFormatter(logging.Formatter):
    """One line for a person."""

    def __init__(self, service: str) -> None:
        super().__init__(f"%(asctime)s %(levelname).1s {service} %(message)s", "%H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, fields behind the message."""
        fields = " ".join(f"{key}={value}" for key, value in _fields(record).items())
        return f"{super().format(record)} {fields}".rstrip()


def _fields(record: logging.LogRecord) -> dict[str, object]:
    fields = {key: value for key, value in vars(record).items() if key not in _STANDARD}
    span = trace.get_current_span().get_span_context()
    return {**fields, "trace_id": f"{span.trace_id:032x}"} if span.is_valid else fields
