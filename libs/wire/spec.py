"""The request: `darkroom.v1.JobSpec` ⇄ `SpecRequest` and `GenerationSpec`."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import Any

from darkroom.v1 import job_pb2 as pb
from libs.generation.spec import GenerationSpec, SpecRequest

_PLAIN = ("prompt", "negative_prompt", "model", "sampler", "output_format", "preview", "priority", "deadline_s")
_OPTIONAL = ("width", "height", "images", "steps", "guidance_scale", "seed", "output_quality")


def request_from_pb(spec: pb.JobSpec) -> SpecRequest:
    """Return the request as it came, absent fields as None or empty."""
    given = {name: getattr(spec, name) for name in _OPTIONAL if spec.HasField(name)}  # type: ignore[arg-type]
    plain = {name: getattr(spec, name) for name in _PLAIN}
    return SpecRequest(**plain, **given, size=spec.size, aspect_ratio=spec.aspect_ratio, labels=dict(spec.labels))


def spec_from_pb(spec: pb.JobSpec) -> GenerationSpec:
    """Return a spec that was resolved before it was sent."""
    return GenerationSpec(**{name: getattr(spec, name) for name in _PLAIN + _OPTIONAL}, labels=dict(spec.labels))


def spec_to_pb(spec: GenerationSpec) -> pb.JobSpec:
    """Return the message of a resolved spec; every field that is used is set."""
    return pb.JobSpec(**{name: getattr(spec, name) for name in _PLAIN + _OPTIONAL}, labels=dict(spec.labels))


def spec_to_json(spec: GenerationSpec) -> dict[str, Any]:
    """Return the spec as a JSON object, for a store."""
    return {**{f.name: getattr(spec, f.name) for f in dataclasses.fields(spec)}, "labels": dict(spec.labels)}


def spec_from_json(document: dict[str, Any]) -> GenerationSpec:
    """Return the spec of a stored JSON object."""
    return GenerationSpec(**document)


def request_digest(request: SpecRequest) -> str:
    """Return the digest that tells whether an idempotency key is used with the same request again."""
    canonical = {f.name: getattr(request, f.name) for f in dataclasses.fields(request)}
    canonical["labels"] = sorted(request.labels.items())
    return hashlib.sha256(json.dumps(canonical, sort_keys=True).encode()).hexdigest()
