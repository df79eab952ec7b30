from __future__ import annotations

import dataclasses
import json

from hypothesis import given
from hypothesis import strategies as st

from darkroom.v1 import job_pb2, model_pb2
from libs.generation.model import Model, ModelDefaults, ModelLimits
from libs.generation.spec import GenerationSpec, LoraUse, SpecRequest
from libs.generation.webhook import Webhook
from libs.wire.model import model_from_pb, model_to_pb
from libs.wire.spec import request_digest, request_from_pb, spec_from_json, spec_from_pb, spec_to_json, spec_to_pb

TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
U32 = st.integers(0, 2**32 - 1)
SPECS = st.builds(
    GenerationSpec,
    prompt=TEXT, negative_prompt=TEXT, model=TEXT, width=U32, height=U32, images=U32, steps=U32,
    guidance_scale=st.floats(allow_nan=False), seed=U32, sampler=TEXT, output_format=TEXT, output_quality=U32,
    preview=st.booleans(), priority=st.integers(-(2**31), 2**31 - 1), deadline_s=U32,
    labels=st.dictionaries(TEXT, TEXT, max_size=3),
    loras=st.lists(st.builds(LoraUse, TEXT, st.floats(allow_nan=False)), max_size=3).map(tuple),
    input_image=TEXT, mask_image=TEXT, strength=st.none() | st.floats(allow_nan=False), frames=st.none() | U32,
    fps=st.none() | U32, cache=TEXT, allow_downgrade=st.booleans(),
    webhook=st.none() | st.builds(Webhook, TEXT, st.lists(TEXT, max_size=2).map(tuple)),
)  # fmt: skip


@given(SPECS)
def test_a_spec_survives_the_wire_and_the_store(spec: GenerationSpec) -> None:
    wire = job_pb2.JobSpec.FromString(spec_to_pb(spec).SerializeToString())
    assert spec_from_pb(wire) == spec
    assert spec_from_json(json.loads(json.dumps(spec_to_json(spec)))) == spec


def test_every_field_of_the_message_is_carried() -> None:
    filled = job_pb2.JobSpec(
        prompt="p", negative_prompt="n", model="m", width=1, height=2, size="1x2", aspect_ratio="1:2", images=3,
        steps=4, guidance_scale=5.5, seed=6, sampler="s", output_format="png", output_quality=7, preview=True,
        priority=-8, deadline_s=9, labels={"a": "b"}, loras=[job_pb2.LoraUse(name="l", weight=0.5)],
        input_image="i", mask_image="k", strength=0.1, frames=10, fps=11, cache="use", allow_downgrade=True,
        webhook=job_pb2.Webhook(url="https://hook.example/", events=["failed"]),
    )  # fmt: skip
    request = request_from_pb(filled)
    assert [f.name for f in dataclasses.fields(request) if not getattr(request, f.name)] == []
    names = {field.name for field in job_pb2.JobSpec.DESCRIPTOR.fields} - {"validate_only"}  # not a property of the job
    assert names == {field.name for field in dataclasses.fields(SpecRequest)}


def test_zero_is_not_absent() -> None:
    assert request_from_pb(job_pb2.JobSpec(seed=0)).seed == 0
    assert request_from_pb(job_pb2.JobSpec()).seed is None
    weights = [
        use.weight
        for use in request_from_pb(job_pb2.JobSpec(loras=[job_pb2.LoraUse(weight=0), job_pb2.LoraUse()])).loras
    ]
    assert weights == [0.0, 1.0]


def test_a_spec_stored_by_an_older_release_has_none_of_what_came_later() -> None:
    spec = GenerationSpec("p", "", "m", 64, 64, 1, 4, 1.0, 5, "euler")
    stored = spec_to_json(spec)
    for name in ("loras", "input_image", "mask_image", "strength", "frames", "fps", "webhook"):
        del stored[name]
    assert spec_from_json(stored) == spec


def test_a_digest_ignores_order_and_sees_every_change() -> None:
    base = SpecRequest(prompt="a", labels={"x": "1", "y": "2"})
    assert request_digest(base) == request_digest(dataclasses.replace(base, labels={"y": "2", "x": "1"}))
    changed = [
        {"prompt": "b"},
        {"seed": 0},
        {"labels": {}},
        {"preview": True},
        {"width": 8},
        {"loras": (LoraUse("l"),)},
        {"input_image": "upl_1"},
        {"strength": 1.0},
        {"frames": 1},
        {"webhook": Webhook("https://hook.example/")},
    ]
    digests = {request_digest(dataclasses.replace(base, **change)) for change in changed}  # type: ignore[arg-type]
    assert len(digests | {request_digest(base)}) == len(changed) + 1


def test_a_model_survives_the_wire() -> None:
    model = Model(
        "m", "v", "StableDiffusionPipeline", ("a", "b"), ModelLimits(8, 16, 4, 99, 5, 2, 3.5, ("x",), 81, 4),
        ModelDefaults(8, 12, 3, 1.5, "x", 0.5, 17, 8), "why", "vram", 2, ("ink",), ("text", "image"), "video",
    )  # fmt: skip
    wire = model_pb2.Model.FromString(model_to_pb(model).SerializeToString())
    assert model_from_pb(wire) == model
    assert (wire.object, wire.owned_by, wire.usable) == ("model", "darkroom", False)


def test_a_model_of_an_older_worker_draws_pictures_from_text() -> None:
    model = model_from_pb(model_pb2.Model(id="m", version="1"))
    assert (model.tasks, model.output, model.draws_video) == (("text",), "image", False)
