"""Whether an order may be drawn here at all, before anything is fetched for it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from libs.errors import InvalidRequest
from libs.fleet.model_rows import ModelRows
from libs.fleet.shapes import Shape, drawing, most_rows
from libs.generation.attempt import FailureKind
from libs.generation.model import Model
from libs.generation.spec import GenerationSpec, SpecRequest, resolve
from services.modelserver.attempt import Order
from services.modelserver.engine.protocol import Load
from services.modelserver.events import Failed
from services.modelserver.models import ModelFolder
from services.modelserver.refusal import Unusable
from services.modelserver.safety import Checker, refuse_prompt
from services.modelserver.shelf import Shelf

_WAITING = 1  # attempts above those that are drawn together: the device does not idle between two


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


def told_rows(load: Load) -> tuple[ModelRows, ...]:
    """Return what others are told of the rows of each model on the device."""
    return tuple(ModelRows(each.pinned, each.rows, each.most) for each in load.models)


def has_room(order: Order, held: Sequence[Order], load: Load, at_once: int, slots: int) -> bool:
    """Return whether one more may come: beside those that draw or, one of them, to wait for its rows here.

    Up to `at_once` and one more there is room in any case: that is what a scheduler counts that knows no rows.
    """
    if len(held) < at_once + _WAITING:
        return at_once > 0
    shapes = [Shape.of(each.pinned, each.spec) for each in (*held, order)]
    most = most_rows(told_rows(load))
    drawn, _ = drawing(shapes, lambda shape: most.get((shape.model, shape.size)), at_once)
    return at_once > 0 and not slots and len(shapes) - drawn <= _WAITING


def _check_spec(spec: GenerationSpec, model: Model) -> None:
    """Check a resolved spec against the limits as they are here; raises InvalidRequest."""
    request = SpecRequest(**{field.name: getattr(spec, field.name) for field in dataclasses.fields(spec)})
    resolve(request, model, spec.seed)
