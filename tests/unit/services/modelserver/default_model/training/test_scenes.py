"""The training data: a seed names its pictures, captions say what is shown, what is held out stays out."""

from __future__ import annotations

import random
import re

import numpy as np
from PIL import Image

from services.modelserver.default_model.training.emoji import load_emoji
from services.modelserver.default_model.training.judge import held_out_prompts
from services.modelserver.default_model.training.pictures import Collection, draw_chunks, draw_pictures
from services.modelserver.default_model.training.scenes import (
    HELD_OUT_PAIRS,
    Thing,
    is_held_out_relation,
    sample_example,
)

THING = r"(?:small |large )?(?P<c{n}>[a-z]+) (?P<s{n}>circle|square|triangle|star|heart|ring|cross|crescent)\b"
PAIR = re.compile(THING.format(n=1))
TWO = re.compile(
    rf"an? {THING.format(n=1)} (?:to the )?(?P<relation>left of|right of|above|below) an? {THING.format(n=2)}"
)


def captions(count, *, training):
    rng = random.Random(3)
    return [sample_example(rng, training=training).caption for _ in range(count)]


def held_out_mentions(texts):
    """Read captions as a stranger would: how many name a held-out pair, how many a held-out relation."""
    pairs = sum(any((m["c1"], m["s1"]) in HELD_OUT_PAIRS for m in PAIR.finditer(text)) for text in texts)
    twos = [m for m in map(TWO.match, texts) if m]
    relations = sum(is_held_out_relation(Thing(m["c1"], m["s1"]), m["relation"], Thing(m["c2"], m["s2"])) for m in twos)
    return pairs, relations


def test_a_seed_names_its_pictures_for_good():
    first, again, other = (draw_pictures(seed, 4, [], 0.0) for seed in (5000, 5000, 5001))
    assert first.captions == again.captions != other.captions
    assert np.array_equal(first.pixels, again.pixels)
    assert first.captions[0] == "a black cross left of a large pink heart"


def test_nothing_held_out_is_in_a_training_caption():
    assert held_out_mentions(captions(4000, training=True)) == (0, 0)


def test_without_training_the_same_reading_finds_what_is_held_out():
    pairs, relations = held_out_mentions(captions(1000, training=False))
    assert pairs > 50
    assert relations > 10


def test_held_out_prompts_are_held_out_and_repeatable():
    prompts = held_out_prompts(11, 30, 30)
    assert prompts == held_out_prompts(11, 30, 30) != held_out_prompts(12, 30, 30)
    assert held_out_mentions([p.prompt for p in prompts[:30]]) == (30, 0)
    assert held_out_mentions([p.prompt for p in prompts[30:]]) == (0, 30)
    assert not {p.prompt for p in prompts} & set(captions(4000, training=True))


def test_a_caption_names_what_the_scene_holds():
    rng = random.Random(4)
    for _ in range(300):
        example = sample_example(rng)
        named = [(m["c1"], m["s1"]) for m in PAIR.finditer(example.caption)]
        assert named == [(thing.colour, thing.shape) for thing in example.scene.things]
        assert example.scene.relation in example.caption
        assert example.scene.place in example.caption


def test_chunks_do_not_depend_on_the_number_of_processes():
    one, two = (list(draw_chunks(Collection(count=3, processes=n))) for n in (1, 2))
    assert [c.captions for c in one] == [c.captions for c in two]
    assert all(np.array_equal(a.pixels, b.pixels) for a, b in zip(one, two, strict=True))


def test_emoji_take_their_words_from_the_file_name(tmp_path):
    Image.new("RGBA", (64, 64), (200, 0, 0, 255)).save(tmp_path / "Red-apple_2.png")
    pictures = draw_pictures(1, 5, load_emoji(tmp_path), 1.0)
    assert all("red apple" in caption for caption in pictures.captions)
    assert (pictures.pixels[:, 64, 64] == (200, 0, 0)).all()
