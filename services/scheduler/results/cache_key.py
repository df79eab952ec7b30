"""What two requests must have in common for one's pictures to answer the other. Pure.

Every field of the spec counts unless it is known to change no pixel, so that a new one never goes unnoticed. The
pinned version is a digest of the weights; `build` is what the workers say of everything else that draws: their
libraries, the options of their models, the adapters beside them.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Collection

from libs.generation.spec import GenerationSpec
from libs.ids import TenantId

BYPASS, REFRESH = "bypass", "refresh"
# Who waits and how; `model` stands in the pinned version.
_NOT_DRAWN = frozenset({"preview", "priority", "deadline_s", "labels", "cache", "allow_downgrade", "model", "webhook"})
_DRAWN = tuple(field.name for field in dataclasses.fields(GenerationSpec) if field.name not in _NOT_DRAWN)
_FORMAT = 1


def cache_key(
    spec: GenerationSpec, model_version: str, tenant: TenantId, builds: Collection[str], *, tenant_only: bool
) -> str:
    """Return the key of a request's pictures; empty when they are neither to be reused nor to be kept for others.

    A request with an input picture is always its tenant's own, others are with `tenant_only`. `builds` are those of
    the workers that may draw it; without any nobody knows what would be drawn, and there is no key.
    """
    if spec.cache == BYPASS or not builds:
        return ""
    own = tenant_only or bool(spec.input_image or spec.mask_image)
    document = {
        "format": _FORMAT,
        "version": model_version,
        "builds": sorted(set(builds)),
        "tenant": tenant if own else None,
        "spec": {name: getattr(spec, name) for name in _DRAWN} | {"loras": [dataclasses.asdict(u) for u in spec.loras]},
    }
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()
