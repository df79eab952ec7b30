"""Whether an order may be drawn here at all, before anything is fetched for it."""

from __future__ import annotations

import dataclasses

from libs.errors import InvalidRequest
from libs.generation.attempt import FailureKind
from libs.generation.model import Model
from libs.generation.spec import GenerationSpec, SpecRequest, resolve
from services.modelserver.attempt import Order
from services.modelserver.events import Failed
from services.modelserver.models import ModelFolder
from services.modelserver.refusal import Unusable
from services.modelserver.safety import Checker, refuse_prompt
from services.modelserver.shelf import Shelf


def folder_for(order: Order, shelf: Shelf, checker: Checker) -> ModelFolder | Failed:
    """Return the model to draw with, or how the attempt ends: no such model here, limits that have changed since the
    job was accepted, a prompt that is not allowed.
    """
    try:
        folder = shelf.usable(order.pinned)
        _check_spec(order.spec, folder.model)
    except Unusable as refusal:
        return Failed(FailureKind.MODEL_UNAVAILABLE, "MODEL_UNUSABLE", f"{refusal}. Nothing was charged.")
    except InvalidRequest as error:
        return Failed(FailureKind.INVALID, error.reason, error.message)
    return refuse_prompt(checker.check_prompt(order.spec.prompt)) or folder


def _check_spec(spec: GenerationSpec, model: Model) -> None:
    """Check a resolved spec against the limits as they are here; raises InvalidRequest."""
    request = SpecRequest(**{field.name: getattr(spec, field.name) for field in dataclasses.fields(spec)})
    resolve(request, model, spec.seed)
