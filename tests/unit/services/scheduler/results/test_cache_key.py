"""Which requests get the same pictures."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from libs.generation.spec import GenerationSpec, LoraUse
from libs.generation.webhook import Webhook
from libs.ids import TenantId
from services.scheduler.results.cache_key import cache_key
from tests.unit.services.scheduler.fakes import TENANT, spec

OTHER = TenantId("zeta")
# A value other than the default for every field; a new field must be given one here, and a place below.
OTHERS: dict[str, Any] = {
    "prompt": "a blue square", "negative_prompt": "blur", "model": "other", "width": 64, "height": 64, "images": 2,
    "steps": 9, "guidance_scale": 1.5, "seed": 8, "sampler": "heun", "output_format": "webp", "output_quality": 80,
    "preview": True, "priority": 1, "deadline_s": 9, "labels": {"a": "b"}, "loras": (LoraUse("ink", 0.5),),
    "input_image": "upl_1", "mask_image": "upl_2", "strength": 0.5, "frames": 9, "fps": 8, "cache": "refresh",
    "allow_downgrade": True, "webhook": Webhook("https://hook.example/x", ("completed",)),
}  # fmt: skip
SAME = {"preview", "priority", "deadline_s", "labels", "cache", "allow_downgrade", "model", "webhook"}


def key(asked: GenerationSpec, tenant: TenantId = TENANT, *, tenant_only: bool = False, **changes: Any) -> str:
    given = {"model_version": "shapes@1", "builds": {"b1"}, **changes}
    return cache_key(asked, given["model_version"], tenant, given["builds"], tenant_only=tenant_only)


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(GenerationSpec)])
def test_every_field_counts_unless_it_changes_no_pixel(name: str) -> None:
    changed = dataclasses.replace(spec(), **{name: OTHERS[name]})
    assert changed != spec()
    assert (key(changed) == key(spec())) == (name in SAME)


def test_model_build_and_scope_count() -> None:
    assert key(spec()) == key(spec(), OTHER)
    assert key(spec(), tenant_only=True) != key(spec(), OTHER, tenant_only=True)
    assert key(spec(), model_version="shapes@2") != key(spec())
    assert key(spec(), builds={"b1", "b2"}) != key(spec())
    assert key(spec(), builds=["b2", "b1"]) == key(spec(), builds=["b1", "b2", "b1"])


def test_an_input_picture_is_its_tenants_own() -> None:
    assert key(spec(input_image="upl_1")) != key(spec(input_image="upl_1"), OTHER)


def test_no_key_without_a_known_build_or_with_bypass() -> None:
    assert key(spec(), builds=()) == ""
    assert key(spec(cache="bypass")) == ""


def test_every_weight_of_an_adapter_counts() -> None:
    assert key(spec(loras=(LoraUse("ink", 0.5),))) != key(spec(loras=(LoraUse("ink", 0.6),)))
