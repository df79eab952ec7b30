"""The judge passes what it should and, more to the point, fails what is wrong."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from services.modelserver.default_model.training.judge import held_out_prompts, judge
from services.modelserver.default_model.training.outlines import SHAPES, draw_mask
from services.modelserver.default_model.training.scenes import (
    BACKGROUNDS,
    COLOURS,
    Scene,
    Thing,
    lay_out,
    render,
    sample_example,
    stands_out,
)

OPPOSITE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
TURNED = {"left of": "above", "right of": "below", "above": "left of", "below": "right of"}
SCENES = [held.scene for held in held_out_prompts(7, 20, 20)]
RELATIONS = [scene for scene in SCENES if scene.relation]
RED_CIRCLE = Scene("white", (Thing("red", "circle"),))


def drawn(scene: Scene, seed: int = 0) -> Image.Image:
    rng = random.Random(seed)
    return render(scene, lay_out(scene, rng), rng)


def other_colour(scene: Scene) -> Scene:
    taken = {thing.colour for thing in scene.things}
    free = next(c for c in COLOURS if c not in taken and stands_out(c, scene.background))
    return replace(scene, things=(replace(scene.things[0], colour=free), *scene.things[1:]))


def other_shape(scene: Scene, by: int) -> Scene:
    last = scene.things[-1]
    shape = SHAPES[(SHAPES.index(last.shape) + by) % len(SHAPES)]
    return replace(scene, things=(*scene.things[:-1], replace(last, shape=shape)))


def other_background(scene: Scene) -> Scene:
    fits = (b for b in BACKGROUNDS if b != scene.background and all(stands_out(t.colour, b) for t in scene.things))
    return replace(scene, background=next(fits))


def swapped_colours(scene: Scene) -> Scene:
    first, second = scene.things
    return replace(scene, things=(replace(first, colour=second.colour), replace(second, colour=first.colour)))


def test_passes_every_true_picture():
    rng = random.Random(5)
    examples = [sample_example(rng, training=False) for _ in range(100)]
    verdicts = [judge(render(e.scene, e.spots, rng), e.scene) for e in examples]
    assert [e.caption for e, v in zip(examples, verdicts, strict=True) if not v.right] == []


@pytest.mark.parametrize("scene", SCENES)
def test_fails_a_wrong_colour(scene):
    assert not judge(drawn(other_colour(scene)), scene).colours


@pytest.mark.parametrize("by", range(1, len(SHAPES)))
def test_fails_every_wrong_shape(by):
    assert not any(judge(drawn(other_shape(scene, by)), scene).shapes for scene in SCENES)


@pytest.mark.parametrize("scene", SCENES)
def test_fails_a_wrong_background(scene):
    verdict = judge(drawn(other_background(scene)), scene)
    assert not verdict.background
    assert verdict.shapes


@pytest.mark.parametrize("turn", [OPPOSITE, TURNED])
def test_fails_a_wrong_relation(turn):
    verdicts = [judge(drawn(replace(s, relation=turn[s.relation])), s) for s in RELATIONS]
    assert all(v.colours and v.shapes and not v.relation and not v.right for v in verdicts)


def test_fails_two_things_with_each_others_colours():
    assert not any(judge(drawn(swapped_colours(scene)), scene).right for scene in RELATIONS)


def test_fails_a_missing_second_thing():
    alone = [replace(scene, things=scene.things[:1], relation="") for scene in RELATIONS]
    assert not any(judge(drawn(one), scene).colours for one, scene in zip(alone, RELATIONS, strict=True))


@pytest.mark.parametrize("scene", [RED_CIRCLE, RELATIONS[0]])
def test_fails_a_thing_that_nobody_asked_for(scene):
    image = drawn(scene)
    assert judge(image, scene).right
    extra = next(c for c in COLOURS if stands_out(c, scene.background) and c not in {t.colour for t in scene.things})
    for x, y in ((24, 24), (104, 24), (24, 104), (104, 104)):
        image.paste(COLOURS[extra], (0, 0), draw_mask("square", x, y, 16))
    assert not judge(image, scene).tidy


def test_fails_the_right_thing_many_times_over():
    image = drawn(Scene("white", (Thing("red", "circle", "small"),)))
    many = Image.new("RGB", (256, 256))
    for corner in ((0, 0), (128, 0), (0, 128), (128, 128)):
        many.paste(image, corner)
    assert not judge(many, RED_CIRCLE).right


@pytest.mark.parametrize("colour", ["white", "black", "red", "gray"])
def test_fails_a_blank_picture(colour):
    blank = Image.new("RGB", (128, 128), colour)
    assert not any(judge(blank, scene).right for scene in SCENES)


def test_fails_noise_and_a_blot():
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 256, (128, 128, 3), dtype=np.uint8))
    assert not any(judge(noise, scene).right for scene in SCENES[:4] + RELATIONS[:4])
    sprinkled = np.where(rng.random((128, 128, 1)) < 0.3, (220, 38, 38), (250, 250, 250)).astype(np.uint8)
    assert not judge(Image.fromarray(sprinkled), RED_CIRCLE).right


def test_a_picture_of_another_size_is_scaled():
    assert judge(drawn(RED_CIRCLE).resize((112, 112)), RED_CIRCLE).right
