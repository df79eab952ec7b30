"""Every path of the public REST API, as the protos name them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from google.api import annotations_pb2

from darkroom.v1 import (
    account_service_pb2,
    generation_service_pb2,
    model_service_pb2,
    site_service_pb2,
    upload_service_pb2,
)

_PUBLIC = (account_service_pb2, generation_service_pb2, model_service_pb2, site_service_pb2, upload_service_pb2)
_IN_BRACES = {"{id}": "x_1", "{index}": "0", "{name}": "ab.png"}


@dataclass(frozen=True, slots=True)
class Operation:
    """One that can be asked for: `path` has something in the place of each variable."""

    method: str
    path: str


def operations() -> Sequence[Operation]:
    """Return all of them."""
    services = [service for module in _PUBLIC for service in module.DESCRIPTOR.services_by_name.values()]
    rules = [method.GetOptions().Extensions[annotations_pb2.http] for service in services for method in service.methods]
    kinds = [(rule.WhichOneof("pattern"), rule) for rule in rules]
    return [Operation(kind.upper(), _filled(getattr(rule, kind))) for kind, rule in kinds if kind]


def _filled(template: str) -> str:
    for variable, value in _IN_BRACES.items():
        template = template.replace(variable, value)
    return template
