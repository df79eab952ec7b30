"""A request before it is accepted, and the one check that names everything wrong with it."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from darkroom.v1 import job_pb2
from libs.errors import InvalidRequest, NotFound, PreconditionFailed, Unavailable, Violation
from libs.generation.model import Model
from libs.generation.spec import SEED_SPACE, GenerationSpec, SpecRequest, invalid, resolve
from libs.wire.spec import request_from_pb
from services.gateway.catalog import CatalogView
from services.gateway.webhooks.destinations import PUBLIC_ONLY, Destinations

MAX_REQUEST_ID = 128
_MAX_WORD = 200  # characters of a model or sampler name; longer ones would not fit into an error's headers
_MAX_SHAPE = 20  # characters of `512x768` or `16:9`
_MAX_TOLD = 160  # characters of one description
_HEADER_ROOM = 1600  # bytes for all problems; they travel twice, once in base64, in headers of at most 8 KB


@dataclass(frozen=True, slots=True)
class Draft:
    """What a body or message asks for. `problems` are those of its form; the rest is not checked yet."""

    spec: job_pb2.JobSpec
    request_id: str = ""
    problems: tuple[Violation, ...] = ()

    @property
    def request(self) -> SpecRequest:
        """The request as the domain reads it."""
        return request_from_pb(self.spec)


@dataclass(frozen=True, slots=True)
class Priced:
    """A checked request with its defaults, its model and its price in units, which nine of ten do not exceed."""

    request: SpecRequest
    spec: GenerationSpec
    model: Model
    units: float
    typical_units: float = 0.0  # half of them do not exceed it
    prices_version: int = 0


def price(draft: Draft, catalog: CatalogView, destinations: Destinations = PUBLIC_ONLY) -> Priced:
    """Check the whole request and price it; `destinations` says where its webhook may go.

    Raises InvalidRequest naming every invalid field, or what `CatalogView.find` raises when only the model is wrong.
    """
    problems = [*draft.problems, *text_problems(draft), *destinations.problems(draft.spec)]
    if problems:
        raise _all_at_once(draft, catalog, problems)
    model = catalog.find(draft.spec.model)
    try:
        spec = resolve(draft.request, model, secrets.randbelow(SEED_SPACE))
    except InvalidRequest as error:
        raise _bounded(error.violations) from None
    costs, pinned = catalog.costs, model.pinned
    typical_units, units = costs.prices(spec, pinned)
    return Priced(draft.request, spec, model, units, typical_units, costs.version)


def text_problems(draft: Draft) -> list[Violation]:
    """Return what no model could make right: texts too long to be repeated, or that no store can keep."""
    spec, problems = draft.spec, list[Violation]()
    bounds = (
        ("model", spec.model, _MAX_WORD),
        ("sampler", spec.sampler, _MAX_WORD),
        ("output_format", spec.output_format, _MAX_WORD),
        ("size", spec.size, _MAX_SHAPE),
        ("aspect_ratio", spec.aspect_ratio, _MAX_SHAPE),
        ("input_image", spec.input_image, _MAX_WORD),
        ("mask_image", spec.mask_image, _MAX_WORD),
        ("request_id", draft.request_id, MAX_REQUEST_ID),
    )
    for name, value, most in bounds:
        if len(value) > most:
            problems.append(Violation(name, f"has {len(value)} characters, at most {most} are allowed"))
        elif not value.isascii() or not value.isprintable():
            problems.append(Violation(name, "must be of plain printable characters"))
    labels = [part for pair in spec.labels.items() for part in pair]
    for name, texts in (("prompt", [spec.prompt]), ("negative_prompt", [spec.negative_prompt]), ("labels", labels)):
        if any("\0" in text for text in texts):
            problems.append(Violation(name, "must not hold the character U+0000"))
    return problems


def _all_at_once(draft: Draft, catalog: CatalogView, problems: list[Violation]) -> InvalidRequest:
    """Join what is wrong with the form and what is wrong with the values of the fields that could be read."""
    spoilt = {problem.field for problem in problems}
    readable = job_pb2.JobSpec()
    readable.CopyFrom(draft.spec)
    for name in spoilt & set(readable.DESCRIPTOR.fields_by_name):
        readable.ClearField(name)  # type: ignore[arg-type]
    try:
        resolve(request_from_pb(readable), catalog.find(readable.model), 0)
    except InvalidRequest as error:
        problems += [v for v in error.violations if v.field not in spoilt]
    except (NotFound, PreconditionFailed) as error:
        problems.append(Violation("model", "is not a known model" if isinstance(error, NotFound) else "cannot be used"))
    except Unavailable:
        pass  # without a catalog only the form can be judged, and that is wrong already
    return _bounded(problems)


def _bounded(problems: Sequence[Violation]) -> InvalidRequest:
    """Return the error that names the problems, cut where it would not fit into the headers that carry it."""
    told, room = list[Violation](), _HEADER_ROOM
    for problem in problems:
        short = Violation(problem.field, problem.description[:_MAX_TOLD])
        room -= _header_bytes(short.field) + _header_bytes(short.description)
        if room < 0:
            break
        told.append(short)
    error = invalid(told)
    left = len(problems) - len(told)
    if not left:
        return error
    more = f"{error.message} {left} more fields are invalid."
    return InvalidRequest(more, reason=error.reason, violations=told)


def _header_bytes(text: str) -> int:
    """Return the length of a text in a gRPC message header, where all but printable ASCII takes three a byte."""
    return sum(1 if 0x20 <= byte <= 0x7E else 3 for byte in text.encode())
