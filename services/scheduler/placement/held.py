"""Who gets a worker that others fill again and again, so that a job that fits beside none of them has its turn. Pure.

A job whose model must be loaded, or that is large, takes more room than one that ends leaves; small jobs of a model
on the device take that room at once. By seats alone it would never begin while they come. So one start in EVERY asks
the order who would be next if the worker took all that it can draw. When that is a job which nobody takes, which waits
for as long as a load takes and whose tenant is as far behind, it goes to the worker before its time: nothing comes
after it there until it draws.
"""

from __future__ import annotations

from zlib import crc32

from libs.fleet.record import WorkerRecord
from libs.fleet.shapes import Shape
from services.scheduler.order.ordering import Offer, Ordering, Waiting
from services.scheduler.placement.load_times import DISK, PRIOR_S

EVERY = 16  # starts; it costs another look at the order, and the worker runs empty to where the job fits
BEHIND_S = PRIOR_S[DISK]
BEHIND_UNITS = BEHIND_S * 1000.0  # by which jobs that fit may go before one that does not, its load apart


def held(order: Ordering, usual: Waiting, worker: WorkerRecord, offers: tuple[Offer, Offer], now: float) -> Waiting:
    """Return who gets the worker that would take `usual`; `offers` are what all take, and what the worker can draw."""
    if crc32(usual.job_id.encode()) % EVERY:  # by chance, lest it be always the same worker that is asked
        return usual
    taken, able = offers

    def offer(line: str) -> float | None:
        cost = taken(line)
        if cost is not None or Shape.of_line(line).model not in worker.models:
            return cost
        return max(BEHIND_UNITS, able(line) or 0.0)

    found = order.next(offer, now)
    if found is None or taken(found.line) is not None or now - found.queued_at < BEHIND_S:
        return usual
    return found
