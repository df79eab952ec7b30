"""When, and whether, a job runs again after an attempt that brought no pictures. Pure.

    fault               again?                                counts towards the dead letter?
    INVALID, BLOCKED    never                                 –
    OUT_OF_MEMORY       where there is more memory, then      yes, unless it advanced
                        with nothing beside it
    TRANSIENT           after a growing, random wait          yes, unless it advanced
    WORKER_LOST         at once, elsewhere where possible     yes, unless it advanced
    MODEL_UNAVAILABLE   after a wait that doubles each time   no
    REFUSED, DRAINING   at once                               no
    RESTARTED           at once (the scheduler's own fault)   no

An attempt advanced when it left a checkpoint that is further than all before it (attempts.checkpoints): the next one
has less to do, so this comes to an end. An attempt counts from its start, so `counted` is how many there were with the
one that failed. After MAX_COUNTED_ATTEMPTS the job is dead, as after running out of memory alone. What a worker in
quarantine fails does not count. No fault of the platform is charged; of blocked pictures the drawing is
(settlement.charging).
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass, replace

from services.scheduler.job import AttemptRecord, Failure

MAX_COUNTED_ATTEMPTS = 3
RESTARTED = "SCHEDULER_RESTARTED"  # the reason of an attempt that was lost between two leaders
FIRST_WAIT_S, MOST_WAIT_S = 1.0, 30.0
FIRST_MODEL_WAIT_S, MOST_MODEL_WAIT_S = 5.0, 60.0
OUT_OF_MEMORY = "GPU_OUT_OF_MEMORY"  # the reason of an attempt that found too little memory
_TOLD = "Nothing was charged."


class Fault(enum.Enum):
    """What kept an attempt from its pictures."""

    INVALID = "INVALID"  # the request can never succeed
    BLOCKED = "BLOCKED"  # the safety check found what is not allowed
    OUT_OF_MEMORY = "OUT_OF_MEMORY"  # the device ran out of memory
    TRANSIENT = "TRANSIENT"  # a passing fault
    MODEL_UNAVAILABLE = "MODEL_UNAVAILABLE"  # the model cannot be used on that worker
    WORKER_LOST = "WORKER_LOST"  # the stream broke or the worker is gone
    REFUSED = "REFUSED"  # the worker did not take it
    DRAINING = "DRAINING"  # the worker goes away and gave it back
    RESTARTED = "RESTARTED"  # the scheduler died while it ran, and its worker forgot it


@dataclass(frozen=True, slots=True)
class Mishap:
    """An attempt without pictures: what, why (a machine-readable reason), and in words."""

    fault: Fault
    reason: str
    message: str = ""


@dataclass(frozen=True, slots=True)
class Again:
    """The job waits again. `outcome` of the attempt is lost or refused; `wait_s` seconds until the next try."""

    outcome: str
    counted: bool
    wait_s: float = 0.0
    elsewhere: bool = False
    roomier: bool = False  # on a device with more memory, if there is one
    alone: bool = False  # with nothing beside it


_FREE = {
    Fault.REFUSED: Again("refused", counted=False),
    Fault.DRAINING: Again("refused", counted=False),
    Fault.RESTARTED: Again("lost", counted=False),
}
_LADDER = (
    Again("lost", counted=True, elsewhere=True, roomier=True),
    Again("lost", counted=True, elsewhere=True, roomier=True, alone=True),
)


def decide(
    mishap: Mishap,
    *,
    counted: int,
    uncounted: int = 0,
    out_of_memory_before: int = 0,
    jitter: float,
    advanced: bool = False,
    worker_at_fault: bool = False,
) -> Again | Failure:
    """Return how the job goes on, or why it failed for good.

    `counted` attempts include this one, `uncounted` are those before it, `out_of_memory_before` those of
    them that ended so; `jitter` is a random number from 0 to 1.
    """
    if mishap.fault in _FREE:
        return _FREE[mishap.fault]
    if mishap.fault is Fault.MODEL_UNAVAILABLE:  # each try leaves an attempt and two events behind for good
        wait_s = min(MOST_MODEL_WAIT_S, FIRST_MODEL_WAIT_S * 2 ** min(uncounted, 8))
        return Again("refused", counted=False, wait_s=wait_s, elsewhere=True)
    if mishap.fault is Fault.INVALID:
        return Failure(mishap.reason or "INVALID_REQUEST", f"{_sentence(mishap)} {_TOLD}", {"charged": "false"})
    if mishap.fault is Fault.BLOCKED:  # what it is charged depends on what was drawn: endings.blocked
        return Failure(mishap.reason or "SAFETY_OUTPUT_BLOCKED", _sentence(mishap))
    if mishap.fault is Fault.OUT_OF_MEMORY and out_of_memory_before >= len(_LADDER):
        return _too_large(mishap)
    if counted >= MAX_COUNTED_ATTEMPTS and not advanced and not worker_at_fault:
        return _dead(mishap, counted)
    if mishap.fault is Fault.OUT_OF_MEMORY:
        return replace(_LADDER[out_of_memory_before], counted=not (advanced or worker_at_fault))
    wait_s = _backoff_s(counted, jitter) if mishap.fault is Fault.TRANSIENT else 0.0
    return Again("lost", counted=not (advanced or worker_at_fault), wait_s=wait_s, elsewhere=True)


def times_out_of_memory(attempts: Sequence[AttemptRecord]) -> int:
    """Return how many of a job's attempts ended for want of memory: the rung of the ladder it stands on."""
    return sum(attempt.reason == OUT_OF_MEMORY for attempt in attempts)


def dies_of(fault: Fault) -> bool:
    """Return whether a job that failed for good by this fault is a dead letter: it might succeed another time."""
    return fault not in (Fault.INVALID, Fault.BLOCKED)


def timed_out(limit_s: float) -> Failure:
    """Return the failure of an attempt that ran longer than its limit; it is not tried again."""
    told = f"The job was stopped after {limit_s:.0f} s, far above its estimate. {_TOLD} It may succeed if sent again."
    return Failure("GENERATION_TIMEOUT", told, {"limit_s": f"{limit_s:.0f}", "charged": "false"})


def _dead(mishap: Mishap, counted: int) -> Failure:
    metadata = {"attempts": str(counted), "charged": "false"}
    if mishap.fault is Fault.WORKER_LOST:
        told = f"The worker was lost {counted} times while it ran this job. {_TOLD} It may succeed if sent again."
        return Failure("WORKER_LOST", told, metadata)
    if mishap.fault is Fault.OUT_OF_MEMORY:
        return _too_large(mishap)
    told = f"All {counted} attempts failed, the last one so: {_sentence(mishap)} {_TOLD}"
    return Failure("GENERATION_FAILED", told, metadata)


def _too_large(mishap: Mishap) -> Failure:
    """Return the failure of a job that ran out of memory too often; what fits is in the worker's words."""
    told = f"It does not fit into a device's memory, also with nothing beside it: {_sentence(mishap)} {_TOLD}"
    hint = "" if "fit" in mishap.message else " A smaller size or fewer images may fit."
    return Failure(OUT_OF_MEMORY, told + hint, {"charged": "false"})


def _sentence(mishap: Mishap) -> str:
    text = mishap.message.strip() or mishap.reason or mishap.fault.value
    return text if text.endswith((".", "!", "?")) else text + "."


def _backoff_s(counted: int, jitter: float) -> float:
    most = float(min(MOST_WAIT_S, FIRST_WAIT_S * 2 ** max(0, counted)))
    return jitter * most  # full jitter: jobs that failed together do not come back together
