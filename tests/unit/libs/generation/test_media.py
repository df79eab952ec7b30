"""Input pictures, masks, strength, frames and formats: what each kind of model takes, and how it refuses the rest."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.errors import InvalidRequest
from libs.generation.model import Model, ModelDefaults, ModelLimits
from libs.generation.spec import GenerationSpec, SpecRequest, resolve

UPLOAD, MASK = "upl_01JD0000000000000000000000", "upl_01JD0000000000000000000001"
TEXT_ONLY = Model("words", "1", "P")
PAINTER = Model("painter", "1", "P", tasks=("text", "image", "inpaint"), defaults=ModelDefaults(strength=0.8))
FILLER = Model("filler", "1", "P", tasks=("inpaint",), defaults=ModelDefaults(strength=1.0))
FILM = Model(
    "film", "1", "P", output="video", limits=ModelLimits(max_frames=81, frame_step=4),
    defaults=ModelDefaults(frames=17, fps=8),
)  # fmt: skip
MOVER = dataclasses.replace(FILM, id="mover", tasks=("image",))


def resolved(model: Model, **fields: object) -> GenerationSpec:
    return resolve(SpecRequest(**{"prompt": "a", **fields}), model, 7)  # type: ignore[arg-type]


def violations(model: Model, **fields: object) -> dict[str, str]:
    with pytest.raises(InvalidRequest) as caught:
        resolved(model, **fields)
    return {v.field: v.description for v in caught.value.violations}


def test_a_picture_gets_the_models_strength_and_a_mask_all_of_it() -> None:
    assert resolved(PAINTER).strength is None
    assert resolved(PAINTER, input_image=UPLOAD).strength == 0.8
    assert resolved(PAINTER, input_image=UPLOAD, mask_image=MASK).strength == 1.0
    assert resolved(PAINTER, input_image=UPLOAD, mask_image=MASK, strength=0.4).strength == 0.4


def test_a_clip_gets_the_models_frames_and_is_an_mp4() -> None:
    spec = resolved(FILM)
    assert (spec.frames, spec.fps, spec.output_format) == (17, 8, "mp4")
    assert resolved(FILM, output_format="webp", frames=1).output_format == "webp"
    still = resolved(PAINTER)
    assert (still.frames, still.fps, still.output_format) == (None, None, "png")


@pytest.mark.parametrize(
    ("model", "fields", "field", "told"),
    [
        (TEXT_ONLY, {"input_image": UPLOAD}, "input_image", "text alone"),
        (TEXT_ONLY, {"input_image": UPLOAD, "mask_image": MASK}, "mask_image", "no inpainting"),
        (TEXT_ONLY, {"frames": 8}, "frames", "draws pictures"),
        (TEXT_ONLY, {"fps": 8}, "fps", "draws pictures"),
        (TEXT_ONLY, {"output_format": "mp4"}, "output_format", "png, jpeg, webp"),
        (PAINTER, {"mask_image": MASK}, "mask_image", "needs input_image"),
        (PAINTER, {"strength": 0.5}, "strength", "needs input_image"),
        (PAINTER, {"input_image": UPLOAD, "strength": 0.0}, "strength", "above 0"),
        (PAINTER, {"input_image": UPLOAD, "strength": 1.01}, "strength", "at most 1"),
        (PAINTER, {"input_image": UPLOAD, "strength": float("nan")}, "strength", "not nan"),
        (PAINTER, {"input_image": UPLOAD, "strength": 0.1, "steps": 9}, "strength", "none of the 9 steps"),
        (PAINTER, {"input_image": "../secrets"}, "input_image", "id of an upload"),
        (PAINTER, {"input_image": UPLOAD + "\n"}, "input_image", "id of an upload"),
        (FILLER, {"input_image": UPLOAD}, "input_image", "together with mask_image"),
        (FILLER, {}, "input_image", "is missing"),
        (MOVER, {}, "input_image", "is missing"),
        (MOVER, {"input_image": UPLOAD, "strength": 0.5}, "strength", "takes none"),
        (FILM, {"output_format": "png"}, "output_format", "mp4, webp"),
        (FILM, {"frames": 18}, "frames", "multiple of 4"),
        (FILM, {"frames": 85}, "frames", "1 to 81"),
        (FILM, {"frames": 0}, "frames", "1 to 81"),
        (FILM, {"fps": 0}, "fps", "1 to 60"),
    ],
)
def test_refusals_name_the_field_and_the_reason(model: Model, fields: dict[str, object], field: str, told: str) -> None:
    wrong = violations(model, **fields)
    assert told in wrong[field]
    assert set(wrong) <= {field, "mask_image"}


def test_everything_wrong_is_told_at_once() -> None:
    fields = {"mask_image": "x", "strength": 3.0, "frames": 0, "fps": 99, "output_format": "png", "steps": 0}
    assert set(violations(FILM, **fields)) == {"mask_image", "strength", "frames", "fps", "output_format", "steps"}


def test_a_model_that_draws_from_a_picture_needs_no_prompt() -> None:
    assert resolved(MOVER, prompt="", input_image=UPLOAD).prompt == ""
    assert "prompt" in violations(FILM, prompt="")


@given(
    st.sampled_from([TEXT_ONLY, PAINTER, FILLER, FILM, MOVER]),
    st.sampled_from(["", UPLOAD]), st.sampled_from(["", MASK]), st.none() | st.floats(0.01, 1), st.none() | st.just(5),
)  # fmt: skip
def test_what_was_resolved_resolves_to_itself(
    model: Model, image: str, mask: str, strength: float | None, frames: int | None
) -> None:
    request = SpecRequest(prompt="a", input_image=image, mask_image=mask, strength=strength, frames=frames)
    try:
        spec = resolve(request, model, 7)
    except InvalidRequest:
        return
    again = SpecRequest(**{field.name: getattr(spec, field.name) for field in dataclasses.fields(spec)})
    assert resolve(again, model, 8) == spec
