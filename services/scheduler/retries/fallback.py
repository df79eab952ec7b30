"""Which other model may draw a job. Pure.

Only the one that the job's model names, only if the job allows it, only once, and only if it draws exactly what was
asked for: nothing is clamped.
"""

from __future__ import annotations

from libs.errors import DarkroomError
from libs.generation.model import Model, find_model, id_of
from libs.generation.spec import fits
from services.scheduler.catalog_merge import Catalog
from services.scheduler.job import Job


def substitute(job: Job, catalog: Catalog) -> Model | None:
    """Return the model that may take over a job; None when there is none."""
    if not job.spec.allow_downgrade or job.downgraded_from or job.cancel_requested:
        return None
    model_id = id_of(job.model_version)
    own = next((model for model in catalog.models if model.id == model_id), None)
    if own is None or not own.fallback:
        return None
    try:
        other = find_model(own.fallback, catalog.models, "")
    except DarkroomError:  # it is not there, or cannot be used
        return None
    return other if other.id != model_id and fits(job.spec, other) else None
