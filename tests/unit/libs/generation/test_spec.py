from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.errors import InvalidRequest
from libs.generation.model import Model, ModelLimits
from libs.generation.spec import GenerationSpec, LoraUse, SpecRequest, resolve

MODEL = Model("m", "1", "P", limits=ModelLimits(max_size=1024, max_pixels=512 * 1024))


def violations(request: SpecRequest) -> dict[str, str]:
    with pytest.raises(InvalidRequest) as caught:
        resolve(request, MODEL, 7)
    return {v.field: v.description for v in caught.value.violations}


def test_a_prompt_alone_gets_every_default() -> None:
    spec = resolve(SpecRequest(prompt="a circle"), MODEL, fresh_seed=7)
    assert (spec.width, spec.height, spec.steps, spec.images, spec.seed) == (512, 512, 20, 1, 7)
    assert (spec.sampler, spec.output_format, spec.model) == ("euler", "png", "m")


def test_zeros_that_were_given_are_not_defaults() -> None:
    spec = resolve(SpecRequest(prompt="a", seed=0, guidance_scale=0.0), MODEL, 7)
    assert (spec.seed, spec.guidance_scale, spec.guided) == (0, 0.0, False)


def test_all_invalid_fields_are_named_at_once() -> None:
    request = SpecRequest(
        prompt=" ", negative_prompt="x" * 2001, width=7, steps=0, images=9, guidance_scale=float("nan"), sampler="no",
        output_format="gif", output_quality=0, priority=11, deadline_s=10**6, labels={"": "x"},
    )  # fmt: skip
    assert set(violations(request)) == {
        "prompt", "negative_prompt", "width", "steps", "images", "guidance_scale", "sampler", "output_format",
        "output_quality", "priority", "deadline_s", "labels",
    }  # fmt: skip


def test_reasons_say_what_kind_of_mistake_it_is() -> None:
    with pytest.raises(InvalidRequest) as sizes:
        resolve(SpecRequest(prompt="a", width=7), MODEL, 7)
    with pytest.raises(InvalidRequest) as mixed:
        resolve(SpecRequest(prompt="a", width=7, steps=0), MODEL, 7)
    assert (sizes.value.reason, mixed.value.reason) == ("INVALID_DIMENSIONS", "INVALID_REQUEST")


@pytest.mark.parametrize(
    ("request_", "shape"),
    [
        (SpecRequest(prompt="a", size="640x512"), (640, 512)),
        (SpecRequest(prompt="a", aspect_ratio="4:1"), (1024, 256)),
        (SpecRequest(prompt="a", height=256), (512, 256)),
    ],
)
def test_ways_to_say_a_shape(request_: SpecRequest, shape: tuple[int, int]) -> None:
    spec = resolve(request_, MODEL, 7)
    assert (spec.width, spec.height) == shape


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (SpecRequest(prompt="a", size="big"), "size"),
        (SpecRequest(prompt="a", size="512x512", width=512), "size"),
        (SpecRequest(prompt="a", aspect_ratio="16:0"), "aspect_ratio"),
        (SpecRequest(prompt="a", aspect_ratio="1:1", height=512), "aspect_ratio"),
        (SpecRequest(prompt="a", size="1024x1024"), "width"),
        (SpecRequest(prompt="a", size="²x2"), "size"),
        (SpecRequest(prompt="a", size="9" * 5000 + "x8"), "size"),
        (SpecRequest(prompt="a", aspect_ratio="٣:²"), "aspect_ratio"),
        (SpecRequest(prompt="a", aspect_ratio="9" * 5000 + ":1"), "aspect_ratio"),
    ],
)
def test_shapes_that_cannot_be(request_: SpecRequest, field: str) -> None:
    assert set(violations(request_)) == {field}


@given(st.text(max_size=30) | st.integers(0).map("{}x9".format), st.text(max_size=30) | st.just("9" * 400 + ":1"))
def test_no_text_crashes_the_shape(size: str, ratio: str) -> None:
    for request in (SpecRequest(prompt="a", size=size), SpecRequest(prompt="a", aspect_ratio=ratio)):
        with suppress(InvalidRequest):
            resolve(request, MODEL, 7)


def test_a_wrong_value_is_repeated_in_part_only() -> None:
    told = violations(SpecRequest(prompt="a", sampler="s" * 10_000, output_format="f" * 10_000))
    assert all(len(text) < 200 for text in told.values())


@given(st.integers(1, 99), st.integers(1, 99))
def test_an_aspect_ratio_gives_sizes_of_the_model_step(left: int, right: int) -> None:
    try:
        spec = resolve(SpecRequest(prompt="a", aspect_ratio=f"{left}:{right}"), MODEL, 7)
    except InvalidRequest:
        return  # too narrow for the model
    assert spec.width % 8 == spec.height % 8 == 0
    assert 0.8 < spec.width * spec.height / 512**2 < 1.25


@given(st.integers(0, 2**32 - 1), st.integers(0, 3))
def test_seeds_of_pictures_wrap_around(seed: int, index: int) -> None:
    spec: GenerationSpec = resolve(SpecRequest(prompt="a", seed=seed), MODEL, 7)
    assert spec.image_seed(index) == (seed + index) % 2**32


@pytest.mark.parametrize(
    ("loras", "told"),
    [
        ([LoraUse("inc")], "names 'inc', which is no adapter of the model; near it is ink"),
        ([LoraUse("ink", 2.5)], "has a weight that is not from -2 to 2"),
        ([LoraUse("ink", float("nan"))], "has a weight that is not from -2 to 2"),
        ([LoraUse("ink"), LoraUse("ink", -1)], "names an adapter more than once"),
        ([LoraUse(f"l{n}") for n in range(5)], "has 5 entries, at most 4 are allowed"),
    ],
)
def test_adapters_are_known_few_and_within_range(loras: list[LoraUse], told: str) -> None:
    model = Model("m", "1", "P", loras=("ink", "l0", "l1", "l2", "l3", "l4"))
    with pytest.raises(InvalidRequest) as caught:
        resolve(SpecRequest(prompt="a", loras=tuple(loras)), model, 7)
    (violation,) = caught.value.violations
    assert violation.field == "loras"
    assert violation.description.startswith(told)


def test_known_adapters_are_taken_as_they_were_given() -> None:
    model, uses = Model("m", "1", "P", loras=("ink", "sky")), (LoraUse("sky", -2.0), LoraUse("ink", 2.0))
    assert resolve(SpecRequest(prompt="a", loras=uses), model, 7).loras == uses
    assert violations(SpecRequest(prompt="a", loras=uses[:1]))["loras"].endswith("it has none")
