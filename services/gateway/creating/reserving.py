"""What a request asks of the limiter, and what room a decision leaves for smaller ones."""

from __future__ import annotations

from libs.clients.limiter import Decision, Reservation
from libs.ids import JobId
from services.gateway.callers.identity import Caller
from services.gateway.creating.cheaper import Room
from services.gateway.creating.drafts import Priced

_NO_JOB = JobId("")


def reservation(caller: Caller, priced: Priced, job_id: JobId = _NO_JOB) -> Reservation:
    """Return the reservation of a job; without an id it is one to peek with."""
    spec = priced.spec
    return Reservation(
        job_id,
        caller.tenant_id,
        caller.tier,
        priced.units,
        spec.images,
        key_id=caller.key_id,
        address=caller.address,
        pixels=spec.width * spec.height,
        steps=spec.steps,
    )


def room(decision: Decision) -> Room | None:
    """Return what a smaller request must fit into to be taken now, or ever; None when no size helps."""
    denial, units, images = decision.denial, decision.available_units, decision.available_images
    if denial is not None and denial.dimension == "requests":
        return None
    if denial is not None and denial.dimension == "tier":  # nothing but size stands in the way
        units = denial.limit if denial.about.endswith("units") else units
        images = int(denial.limit) if denial.about in ("in_flight", "daily_images") else None
    if images == 0:
        return None
    return Room(units, images, decision.max_pixels, decision.max_steps)
