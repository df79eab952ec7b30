"""The scheduler's own series; docs/metrics.md lists them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sized

from opentelemetry.metrics import CallbackOptions, Observation

from libs.fleet.record import WorkerRecord
from libs.ids import WorkerId
from libs.telemetry import metrics
from services.scheduler.job import Job
from services.scheduler.order.ordering import TIERS, Ordering


class Instruments:
    """Counts what ends. Make it in the composition root, after metrics were started."""

    def __init__(self) -> None:
        meter = metrics.meter()
        self._jobs = meter.create_counter("darkroom_jobs_total", description="Jobs that reached a final state")
        self._attempts = meter.create_counter("darkroom_attempts_total", description="Attempts that ended")
        self._errors = meter.create_counter("darkroom_errors_total", description="Jobs that failed, by reason")
        self._errors.add(0, {"reason": "WORKER_LOST"})  # so that the series is there before the first failure
        self._sent = meter.create_counter("darkroom_outbox_total", description="Messages of the outbox, by result")
        self._preemptions = meter.create_counter(
            "darkroom_preemptions_total", description="Jobs taken off and on again"
        )
        self._preloads = meter.create_counter("darkroom_preloads_total", description="Loads of models before jobs came")
        self._preemptions.add(0, {"result": "parked"})  # these and the next are there from the start, too
        self._preloads.add(0, {"result": "begun"})
        self._cache = meter.create_counter("darkroom_cache_total", description="Accepted jobs, by what answers them")
        for result in ("hit", "joined", "miss"):
            self._cache.add(0, {"result": result})  # so that a share can be told from the first job on
        self._job_s = metrics.seconds_histogram("darkroom_job_seconds", "From acceptance to the final state")
        self._stage_s = metrics.seconds_histogram("darkroom_stage_seconds", "Stages of a job; here the queue")

    def job_ended(self, job: Job) -> None:
        """Count a job that is in its final state."""
        labels = {"tier": _tier(job.tier), "model": job.spec.model, "outcome": job.state.value.lower()}
        self._jobs.add(1, labels)
        self._job_s.record(max(0.0, (job.finished_at or job.created_at) - job.created_at), labels)
        if job.failure is not None:
            self._errors.add(1, {"reason": job.failure.reason})

    def answered(self, job: Job) -> None:
        """Count a new job: hit, joined or miss; bypass when it neither may be answered nor answers others."""
        result = job.cache.lower() if job.cache_key or job.cache != "MISS" else "bypass"
        self._cache.add(1, {"result": result})

    def attempt_started(self, job: Job, began_at: float) -> None:
        """Measure how long a job waited before the attempt that starts now."""
        waited_s = max(0.0, began_at - job.queued_at)
        self._stage_s.record(waited_s, {"stage": "queue", "model": job.spec.model})

    def attempt_ended(self, outcome: str, reason: str) -> None:
        """Count an attempt: succeeded, failed, cancelled, lost or refused."""
        self._attempts.add(1, {"outcome": outcome, "reason": reason})

    def preemption(self, result: str) -> None:
        """Count a step of making room for a higher tier: parked or refused; then resumed, or overdue."""
        self._preemptions.add(1, {"result": result})

    def preloaded(self, result: str) -> None:
        """Count a load ahead of demand: begun, refused or failed."""
        self._preloads.add(1, {"result": result})

    def message(self, kind: str, result: str) -> None:
        """Count a message of the outbox: delivered or failed."""
        self._sent.add(1, {"kind": kind, "result": result})


def observe(
    ordering: Ordering,
    parked: Callable[[], Sized],
    workers: Callable[[], Mapping[WorkerId, WorkerRecord]],
    given: Callable[[WorkerRecord], tuple[object, ...]],
    now: Callable[[], float],
) -> None:
    """Show queue and fleet. They are read on the exporter's thread, so they only look."""
    _observe_queue(ordering, now)
    shown = [lambda _: [Observation(len(parked()))]]
    metrics.meter().create_observable_gauge("darkroom_parked_jobs", shown, description="Jobs that are off the device")
    _observe_fleet(workers, given)


def observe_lead(leads: Callable[[], bool]) -> None:
    """Show whether this process leads."""
    shown = [lambda _: [Observation(int(leads()))]]
    told = "1 on the scheduler that leads, 0 on those that stand by"
    metrics.meter().create_observable_gauge("darkroom_scheduler_leads", shown, description=told)


def _observe_queue(ordering: Ordering, now: Callable[[], float]) -> None:
    def each(value: Callable[[str], float]) -> list[Callable[[CallbackOptions], Iterable[Observation]]]:
        return [lambda _: [Observation(value(tier), {"tier": tier}) for tier in TIERS]]

    meter = metrics.meter()
    gauge, counter = meter.create_observable_gauge, meter.create_observable_counter
    gauge("darkroom_queue_depth", each(ordering.depth), description="Jobs that wait")
    ages = each(lambda tier: _age_s(ordering.oldest(tier), now()))
    gauge("darkroom_queue_oldest_age_seconds", ages, unit="s", description="Age of the oldest waiting job")
    overdue = each(lambda tier: ordering.overdue(tier, now()))
    gauge("darkroom_queue_overdue", overdue, description="Jobs that wait longer than those of their tier should")
    apart = [lambda _: [Observation(ordering.waiting_apart)]]
    gauge("darkroom_queue_apart", apart, description="Jobs whose model nobody alive can run")
    late = each(lambda tier: ordering.late.get(tier, 0))
    counter("darkroom_queue_late_total", late, description="Jobs that started after waiting longer than they should")
    lane = [lambda _: [Observation(ordering.lane_used)]]
    counter("darkroom_queue_lane_total", lane, description="Jobs that went before others for having waited too long")


def _observe_fleet(
    workers: Callable[[], Mapping[WorkerId, WorkerRecord]], given: Callable[[WorkerRecord], tuple[object, ...]]
) -> None:
    def alive(_: CallbackOptions) -> Iterable[Observation]:
        states = [_state(record, len(given(record))) for record in workers().values()]
        return [Observation(states.count(state), {"state": state}) for state in ("idle", "busy", "draining")]

    def rows(_: CallbackOptions) -> Iterable[Observation]:
        for record in workers().values():
            used = len(given(record))
            yield Observation(used, {"worker": record.worker_id, "state": "used"})
            yield Observation(max(0, record.rows - used), {"worker": record.worker_id, "state": "free"})

    meter = metrics.meter()
    gauge = meter.create_observable_gauge
    gauge("darkroom_workers", [alive], description="Workers that are alive")
    gauge("darkroom_worker_rows", [rows], description="Rows of the workers as the scheduler gave them out")


def _tier(tier: str) -> str:
    return tier if tier in TIERS else "other"  # labels stay few whatever the limiter's file says


def _age_s(since: float | None, now: float) -> float:
    return 0.0 if since is None else max(0.0, now - since)


def _state(record: WorkerRecord, given: int) -> str:
    return "draining" if record.draining else "busy" if given else "idle"
