"""The request: `darkroom.v1.JobSpec` ⇄ `SpecRequest` and `GenerationSpec`."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sys
from typing import Any

from darkroom.v1 import job_pb2 as pb
from libs.generation.spec import GenerationSpec, LoraUse, SpecRequest
from libs.generation.webhook import Webhook

_ASKED = ("size", "aspect_ratio")  # in requests only, a spec has width and height
_PLAIN = (
    *("prompt", "negative_prompt", "model", "sampler", "output_format", "preview", "priority", "deadline_s"),
    *("input_image", "mask_image", "cache", "allow_downgrade"),
)
_OPTIONAL = ("width", "height", "images", "steps", "guidance_scale", "seed", "output_quality")
_OF_FEW = ("model", "sampler", "output_format", "cache")  # of few values: a million specs share their strings
_SPEC = tuple(field.name for field in dataclasses.fields(GenerationSpec))
_SOMETIMES = ("strength", "frames", "fps")  # None where a spec has no such thing


def request_from_pb(spec: pb.JobSpec) -> SpecRequest:
    """Return the request as it came, absent fields as None or empty."""
    given = {name: getattr(spec, name) for name in _OPTIONAL + _SOMETIMES if spec.HasField(name)}  # type: ignore[arg-type]
    plain = {name: getattr(spec, name) for name in _PLAIN + _ASKED}
    return SpecRequest(**plain, **given, labels=dict(spec.labels), loras=_loras(spec), webhook=_webhook(spec))


def spec_from_pb(spec: pb.JobSpec) -> GenerationSpec:
    """Return a spec that was resolved before it was sent."""
    plain = {name: getattr(spec, name) for name in _PLAIN + _OPTIONAL}
    given = {name: getattr(spec, name) for name in _SOMETIMES if spec.HasField(name)}  # type: ignore[arg-type]
    plain = _sharing(plain)
    return GenerationSpec(**plain, **given, labels=dict(spec.labels), loras=_loras(spec), webhook=_webhook(spec))


def spec_to_pb(spec: GenerationSpec) -> pb.JobSpec:
    """Return the message of a resolved spec; every field that is used is set."""
    plain = {name: getattr(spec, name) for name in _PLAIN + _OPTIONAL + _SOMETIMES}
    loras = [pb.LoraUse(name=use.name, weight=use.weight) for use in spec.loras]
    webhook = pb.Webhook(url=spec.webhook.url, events=spec.webhook.events) if spec.webhook else None
    return pb.JobSpec(**plain, labels=dict(spec.labels), loras=loras, webhook=webhook)


def spec_to_json(spec: GenerationSpec) -> dict[str, Any]:
    """Return the spec as a JSON object, for a store."""
    document = {name: getattr(spec, name) for name in _SPEC}
    webhook = spec.webhook and {"url": spec.webhook.url, "events": list(spec.webhook.events)}
    loras = [dataclasses.asdict(use) for use in spec.loras]
    return {**document, "labels": dict(spec.labels), "loras": loras, "webhook": webhook}


def spec_from_json(document: dict[str, Any]) -> GenerationSpec:
    """Return the spec of a stored JSON object."""
    loras = tuple(LoraUse(**use) for use in document.get("loras", ()))  # specs of before adapters have none
    told = document.get("webhook")
    webhook = told and Webhook(told["url"], tuple(told["events"]))
    return GenerationSpec(**_sharing({**document, "loras": loras, "webhook": webhook}))


def request_digest(request: SpecRequest) -> str:
    """Return the digest that tells whether an idempotency key is used with the same request again.

    What is left out does not count, so that a field that is new in a release changes no digest of before.
    """
    given = {f.name: (getattr(request, f.name), f.default) for f in dataclasses.fields(request)}
    canonical = {name: value for name, (value, default) in given.items() if value != default}
    canonical["labels"] = sorted(request.labels.items())
    canonical["loras"] = [dataclasses.astuple(use) for use in request.loras]
    if request.webhook:
        canonical["webhook"] = dataclasses.astuple(request.webhook)
    return hashlib.sha256(json.dumps(canonical, sort_keys=True).encode()).hexdigest()


def _sharing(fields: dict[str, Any]) -> dict[str, Any]:
    return fields | {name: sys.intern(fields[name]) for name in _OF_FEW if name in fields}


def _loras(spec: pb.JobSpec) -> tuple[LoraUse, ...]:
    return tuple(LoraUse(use.name, use.weight if use.HasField("weight") else 1.0) for use in spec.loras)


def _webhook(spec: pb.JobSpec) -> Webhook | None:
    return Webhook(spec.webhook.url, tuple(spec.webhook.events)) if spec.HasField("webhook") else None
