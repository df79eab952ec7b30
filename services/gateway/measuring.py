"""What the gateway counts of its answers to callers: how many, how long, and the reasons of the refused ones."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

from google.rpc import code_pb2
from opentelemetry.metrics import Meter

from libs.clock import Clock
from libs.errors import DarkroomError, InternalFault
from libs.rpc.status import to_status
from libs.telemetry import metrics
from services.gateway.wrapping import around


class AnswerMeasures:
    """The series of the gateway; listed in docs/metrics.md."""

    def __init__(self, meter: Meter, clock: Clock) -> None:
        self._clock = clock
        self._requests = meter.create_counter("darkroom_requests_total", description="Answers to callers.")
        self._errors = meter.create_counter("darkroom_errors_total", description="Refused calls by reason.")
        self._seconds = metrics.seconds_histogram(
            "darkroom_request_seconds", "Time from a call to the end of its answer."
        )

    @contextmanager
    def measured(self, method: str) -> Generator[None, None, None]:
        """Count one call; failures pass through."""
        began, code = self._clock.monotonic(), "OK"
        try:
            yield
        except (asyncio.CancelledError, GeneratorExit):
            code = "CANCELLED"
            raise
        except Exception as error:
            known = error if isinstance(error, DarkroomError) else InternalFault("")
            code = code_pb2.Code.Name(to_status(known).code)
            self._errors.add(1, {"reason": known.reason})
            raise
        finally:
            self._requests.add(1, {"method": method, "code": code})
            self._seconds.record(self._clock.monotonic() - began, {"method": method})


class Measured:
    """Stands in front of a servicer and measures each of its RPCs."""

    def __init__(self, servicer: object, measures: AnswerMeasures) -> None:
        self._servicer = servicer
        self._measures = measures

    def __getattr__(self, name: str) -> Callable[..., Any]:
        """Return the RPC `name` with its measurement around it."""
        return around(getattr(self._servicer, name), lambda _request, _context: self._measures.measured(name))
