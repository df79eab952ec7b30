"""A drawing goes on elsewhere to the same bits; bytes that are not a checkpoint are never believed."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.generation.model import Model
from libs.generation.spec import GenerationSpec
from services.modelserver.engine.checkpoint import (
    BadCheckpoint,
    Checkpoint,
    fingerprint,
    noise_states,
    restore_noise,
    restore_sampler,
    sampler_state,
)
from services.modelserver.engine.held_values import Held, NotPlain
from services.modelserver.models import ModelFolder
from tests.unit.services.modelserver.engine.sampling import SAMPLERS, STEPS, begin, resume

FOLDER = ModelFolder(Path("shapes"), Model(id="shapes", version="0123456789ab", pipeline="StableDiffusionPipeline"))
SPEC = GenerationSpec("a cat", "", "shapes", 64, 64, 1, STEPS, 2.0, 1, "euler", labels={"team": "a"})
SEAL = 8 + 32  # bytes in front of the safetensors file


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_goes_on_from_every_step_to_the_same_bits(sampler: str) -> None:
    scheduler = SAMPLERS[sampler]()
    straight = begin(scheduler)
    total = len(straight.scheduler.timesteps)
    straight.go(total)
    for step in range(1, total):
        saved = begin(scheduler).go(step).checkpoint().to_bytes()
        continued = resume(scheduler, Checkpoint.from_bytes(saved)).go(total)
        assert torch.equal(continued.latents, straight.latents), step


def test_a_restored_sampler_is_in_every_part_as_the_other_was() -> None:
    scheduler = SAMPLERS["unipc"]()
    interrupted = begin(scheduler).go(4)
    other = begin(scheduler).go(7)  # of the same kind but elsewhere, as after answers that were not the denoiser's
    other.scheduler.last_resort = 1
    restore_sampler(other.scheduler, Checkpoint.from_bytes(interrupted.checkpoint().to_bytes()).sampler)
    assert vars(other.scheduler).keys() == vars(interrupted.scheduler).keys()
    assert other.scheduler.config == interrupted.scheduler.config
    for name, value in vars(interrupted.scheduler).items():
        mine = vars(other.scheduler)[name]
        assert type(mine) is type(value), name
        same = torch.equal(mine, value) if isinstance(value, torch.Tensor) else True
        assert same, name


def test_a_checkpoint_can_be_gone_on_from_twice_and_is_not_changed_by_it() -> None:
    scheduler = SAMPLERS["dpmpp_2m"]()
    checkpoint = begin(scheduler).go(3).checkpoint()
    before = checkpoint.to_bytes()
    first = resume(scheduler, checkpoint).go(STEPS)
    assert torch.equal(resume(scheduler, checkpoint).go(STEPS).latents, first.latents)
    assert checkpoint.to_bytes() == before


def test_a_state_shares_nothing_with_the_sampler_that_goes_on() -> None:
    drawing = begin(SAMPLERS["unipc"]()).go(3)
    checkpoint = drawing.checkpoint()
    before = checkpoint.to_bytes()
    drawing.go(6)
    assert checkpoint.to_bytes() == before


def test_everything_survives_the_bytes() -> None:
    extra: dict[str, Any] = {
        "half": torch.tensor([1.5, -0.0], dtype=torch.bfloat16),
        "whole": 3,
        "nothing": None,
        "far": float("inf"),
        "words": "zero",
        "pair": (1, [2.5, None], {"a": True, 3: "b"}),
        "array": np.arange(6, dtype=np.int64).reshape(2, 3)[:, ::-1],
        "number": np.float32(0.1),
    }
    drawing = begin(SAMPLERS["euler_a"]()).go(2)
    vars(drawing.scheduler).update(extra)
    checkpoint = drawing.checkpoint()
    read = Checkpoint.from_bytes(checkpoint.to_bytes())
    assert (read.fingerprint, read.step, read.total, read.shapes) == ("0" * 64, 2, STEPS, checkpoint.shapes)
    assert torch.equal(read.latents, checkpoint.latents)
    target = begin(SAMPLERS["euler_a"]()).scheduler
    restore_sampler(target, read.sampler)
    assert torch.equal(target.half, extra["half"])
    assert (target.whole, target.nothing, target.far, target.words) == (3, None, float("inf"), "zero")
    assert target.pair == extra["pair"]
    assert target.array.tolist() == [[2, 1, 0], [5, 4, 3]]
    assert type(target.number) is np.float32
    assert target.number == extra["number"]


def test_what_was_on_the_device_goes_back_to_it_and_the_rest_stays() -> None:
    scheduler = begin(SAMPLERS["euler"]()).scheduler
    state = sampler_state(scheduler)
    assert not state["sigmas"].away
    state["timesteps"] = Held(state["timesteps"].tensor, away=True)
    scheduler.timesteps = scheduler.timesteps.to("meta")  # a device that every machine has
    restore_sampler(scheduler, state)
    assert (scheduler.timesteps.device.type, scheduler.sigmas.device.type) == ("meta", "cpu")
    restore_sampler(scheduler, state, "cpu")
    assert scheduler.timesteps.device.type == "cpu"


@pytest.mark.parametrize("value", [object(), {1, 2}, torch.zeros(2).to_sparse(), np.array([object()]), [[b"x"]]])
def test_a_sampler_with_something_that_cannot_be_kept_has_no_checkpoints(value: object) -> None:
    scheduler = begin(SAMPLERS["euler"]()).scheduler
    scheduler.solver = value
    with pytest.raises(NotPlain):
        sampler_state(scheduler)


@pytest.mark.parametrize("name", ["step", "__class__", "_internal_dict", "config", "not a name"])
def test_no_state_takes_the_place_of_a_samplers_code(name: str) -> None:
    scheduler = begin(SAMPLERS["euler"]()).scheduler
    before = dict(vars(scheduler))
    with pytest.raises(BadCheckpoint):
        restore_sampler(scheduler, sampler_state(scheduler) | {name: 1})
    assert vars(scheduler) == before


@pytest.mark.parametrize("states", [(), (torch.zeros(3, dtype=torch.uint8),), (torch.zeros(2),)])
def test_noise_of_another_kind_is_refused(states: tuple[torch.Tensor, ...]) -> None:
    with pytest.raises(BadCheckpoint):
        restore_noise([torch.Generator()], states)


DATA = begin(SAMPLERS["dpmpp_2m"]()).go(3).checkpoint().to_bytes()
TENSORS = safetensors.torch.load(DATA[SEAL:])
DOCUMENT: dict[str, Any] = json.loads(
    json.loads(DATA[SEAL + 8 : SEAL + 8 + int.from_bytes(DATA[SEAL : SEAL + 8], "little")])["__metadata__"][
        "checkpoint"
    ]
)


def sealed(document: object, tensors: dict[str, torch.Tensor] = TENSORS) -> bytes:
    """Return what a hostile writer could have written."""
    return _seal(safetensors.torch.save(tensors, {"checkpoint": json.dumps(document)}))


def _seal(body: bytes) -> bytes:
    return DATA[:8] + hashlib.sha256(body).digest() + body


def test_what_is_sealed_anew_is_believed() -> None:
    assert Checkpoint.from_bytes(sealed(DOCUMENT)).step == 3


@given(st.integers(0, len(DATA) - 1), st.integers(1, 255))
def test_no_altered_byte_is_believed(place: int, flip: int) -> None:
    broken = bytearray(DATA)
    broken[place] ^= flip
    with pytest.raises(BadCheckpoint):
        Checkpoint.from_bytes(bytes(broken))


@given(st.integers(0, len(DATA) - 1), st.binary(max_size=64))
def test_nothing_cut_short_or_made_up_is_believed(length: int, made_up: bytes) -> None:
    header = len(made_up).to_bytes(8, "little") + made_up
    for broken in (DATA[:length], DATA + made_up + b"!", made_up, _seal(made_up), _seal(header)):
        with pytest.raises(BadCheckpoint):
            Checkpoint.from_bytes(broken)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["tensor", "away", "array", "number", "tuple", "dict", "0"]), inner, max_size=3
        )
    ),
    max_leaves=12,
)


@settings(max_examples=300)
@given(st.sampled_from(sorted(DOCUMENT)), JSON)
def test_whatever_the_metadata_says_it_is_refused_or_of_the_promised_types(part: str, value: object) -> None:
    try:
        read = Checkpoint.from_bytes(sealed(DOCUMENT | {part: value}))
    except BadCheckpoint:
        return
    assert isinstance(read.latents, torch.Tensor)
    assert 0 < read.step <= read.total
    assert all(isinstance(side, int) for shape in read.shapes for side in shape)


def without(name: str) -> dict[str, object]:
    return {key: value for key, value in DOCUMENT.items() if key != name}


HOSTILE: dict[str, Callable[[], bytes]] = {
    "deeper than a stack": lambda: _seal(safetensors.torch.save(TENSORS, {"checkpoint": "[" * 100_000})),
    "deep": lambda: sealed(DOCUMENT | {"sampler": {"a": json.loads("[" * 200 + "]" * 200)}}),
    "another format": lambda: sealed(DOCUMENT | {"format": 2}),
    "no latents": lambda: sealed(without("latents")),
    "a tensor twice": lambda: sealed(DOCUMENT | {"noise": [DOCUMENT["latents"]]}),
    "tensors that nobody names": lambda: sealed(DOCUMENT, TENSORS | {"more": torch.zeros(9)}),
    "latents that ran away": lambda: sealed(DOCUMENT, _replaced(torch.full((1, 4), float("nan")))),
    "no numbers at all": lambda: sealed(DOCUMENT, _replaced(torch.zeros(0, 4))),
    "an answer as large as the machine": lambda: sealed(DOCUMENT | {"shapes": [[2**30, 2**30]]}),
    "an answer of many sides": lambda: sealed(DOCUMENT | {"shapes": [[1] * 1000]}),
    "more done than there is": lambda: sealed(DOCUMENT | {"step": STEPS + 1}),
    "nothing done": lambda: sealed(DOCUMENT | {"step": 0}),
    "steps without end": lambda: sealed(DOCUMENT | {"total": 10**9}),
    "a name that is no fingerprint": lambda: sealed(DOCUMENT | {"fingerprint": "../" * 20}),
    "a header without end": lambda: _seal((2**40).to_bytes(8, "little") + b"{}"),
    "a header above the ceiling": lambda: sealed(DOCUMENT | {"more": "x" * 2**20}),
}


def _replaced(latents: torch.Tensor) -> dict[str, torch.Tensor]:
    return TENSORS | {DOCUMENT["latents"]["tensor"]: latents}


@pytest.mark.parametrize("case", HOSTILE)
def test_what_a_hostile_writer_sealed_is_refused(case: str) -> None:
    data = HOSTILE[case]()
    with pytest.raises(BadCheckpoint):
        Checkpoint.from_bytes(data)


def test_the_fingerprint_knows_all_that_changes_the_picture_and_nothing_else() -> None:
    pixels = np.zeros((4, 8, 3), np.uint8)
    mine = fingerprint(FOLDER, SPEC, None, None)
    assert mine == fingerprint(FOLDER, dataclasses.replace(SPEC), None, None)
    same: list[dict[str, Any]] = [{"output_format": "webp", "output_quality": 3}, {"priority": 9}, {"labels": {}}]
    for changes in same:
        assert fingerprint(FOLDER, dataclasses.replace(SPEC, **changes), None, None) == mine
    other: list[dict[str, Any]] = [
        {"seed": 2},
        {"prompt": "a dog"},
        {"steps": 8},
        {"strength": 0.5},
        {"guidance_scale": 3},
    ]
    another = dataclasses.replace(FOLDER, model=dataclasses.replace(FOLDER.model, version="ba9876543210"))
    half = dataclasses.replace(FOLDER, options=dataclasses.replace(FOLDER.options, dtype="float16"))
    all_of_them = {
        mine,
        *(fingerprint(FOLDER, dataclasses.replace(SPEC, **changes), None, None) for changes in other),
        *(fingerprint(folder, SPEC, None, None) for folder in (another, half)),
        fingerprint(FOLDER, SPEC, pixels, None),
        fingerprint(FOLDER, SPEC, pixels + 1, None),
        fingerprint(FOLDER, SPEC, pixels.reshape(8, 4, 3), None),
        fingerprint(FOLDER, SPEC, None, pixels),
    }
    assert len(all_of_them) == 1 + 5 + 2 + 4


def test_noise_goes_on_where_it_was() -> None:
    sources = [torch.Generator().manual_seed(seed) for seed in (1, 2)]
    torch.randn(3, generator=sources[0])
    states = noise_states(sources)
    expected = [torch.randn(4, generator=source) for source in sources]
    fresh = [torch.Generator(), torch.Generator()]
    restore_noise(fresh, states)
    assert all(torch.equal(torch.randn(4, generator=source), old) for source, old in zip(fresh, expected, strict=True))
