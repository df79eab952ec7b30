"""Why a job is over, in the words that the limiter knows."""

from __future__ import annotations

import pytest

from services.scheduler.job import Change
from services.scheduler.settlement.charging import cause


@pytest.mark.parametrize(
    ("change", "gpu_ms", "reason", "finished", "expected"),
    [
        (Change.SUCCEED, 100.0, "", 1.0, "succeeded"),
        (Change.CANCEL, 0.0, "", 0.0, "withdrawn"),
        (Change.CANCEL, 40.0, "", 0.0, "cancelled"),
        (Change.EXPIRE, 0.0, "", 0.0, "expired"),
        (Change.FAIL, 100.0, "GPU_OUT_OF_MEMORY", 0.0, "platform"),
        (Change.FAIL, 100.0, "WORKER_LOST", 0.5, "partly"),
        (Change.FAIL, 0.0, "SAFETY_PROMPT_BLOCKED", 0.0, "prompt_blocked"),
        (Change.FAIL, 100.0, "SAFETY_OUTPUT_BLOCKED", 0.5, "output_blocked"),
    ],
)
def test_the_cause_of_an_end(change: Change, gpu_ms: float, reason: str, finished: float, expected: str):
    assert cause(change, gpu_ms, reason=reason, finished=finished) == expected
