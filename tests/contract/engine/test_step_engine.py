"""The promises of `Engine`, checked on every engine that keeps them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from libs.generation.model import Model, ModelDefaults, ModelLimits
from libs.generation.spec import LoraUse, SpecRequest, resolve
from services.modelserver.digests import FileDigests
from services.modelserver.engine.batch_table import BatchTable
from services.modelserver.engine.classes import LibraryClasses
from services.modelserver.engine.device import Device
from services.modelserver.engine.fake import FakeEngine, Hooks
from services.modelserver.engine.outfit import make_outfit
from services.modelserver.engine.protocol import BadPictures, Cancelled, ModelBroken, Tier
from services.modelserver.engine.stepwise import StepwiseEngine
from services.modelserver.models import ModelFolder, scan
from tests.contract.engine.step_driver import Driver
from tests.contract.engine.tiny_pipeline import save_tiny_pipeline

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning")

LIMITS = ModelLimits(min_size=16, max_size=64, max_pixels=4096, samplers=("euler", "euler_a", "ddim"))
STORY = "a red circle left of a blue square"


class Kind:
    """How an engine is made, and two models for it and one that does not load."""

    def __init__(self, make, one, other, broken):
        self.make, self.one, self.other, self.broken = make, one, other, broken


def _fake_model(name):
    model = Model(name, "1", "P", limits=LIMITS, defaults=ModelDefaults(32, 32, 3))
    return ModelFolder(Path(name), model)


def _fake_kind():
    def on_load(folder):
        if folder.model.id == "broken":
            raise ModelBroken("the sizes differ")

    def make():
        return FakeEngine(Hooks(on_load=on_load))

    return Kind(make, _fake_model("one"), _fake_model("other"), _fake_model("broken"))


def _stepwise_kind(place):
    """The engine that ships, on two tiny models of random weights and one whose weights do not fit its configuration."""
    for name, seed in (("one", 0), ("other", 1), ("broken", 2)):
        save_tiny_pipeline(place / name, seed)
    config = place / "broken" / "unet" / "config.json"
    config.write_text(config.read_text().replace('"cross_attention_dim": 16', '"cross_attention_dim": 32'))
    folders = {folder.path.name: folder for folder in scan([place], FileDigests(place / "digests"), LibraryClasses())}

    def make():
        device = Device("cpu", threads=1)
        return StepwiseEngine(make_outfit(device, BatchTable(device.info.id), due=lambda *_about: True))

    return Kind(make, folders["one"], folders["other"], folders["broken"])


@pytest.fixture(scope="module", params=["fake", "stepwise"])
def kind(request, tmp_path_factory):
    if request.param == "fake":
        yield _fake_kind()
        return
    before = torch.get_num_threads()
    yield _stepwise_kind(tmp_path_factory.mktemp("models"))
    torch.set_num_threads(before)


@pytest.fixture
def driver(kind):
    driver = Driver(kind.make())
    yield driver
    driver.engine.close()


def spec_for(folder, **fields):
    return resolve(SpecRequest(**{"prompt": STORY, "steps": 3, "seed": 5, **fields}), folder.model, fresh_seed=0)


def alone(kind, spec, folder=None, **more):
    """Draw one request with an engine of its own."""
    driver = Driver(kind.make())
    try:
        return driver.draw(folder or kind.one, spec, **more)
    finally:
        driver.engine.close()


def same(pictures, expected):
    """Within one level of 255, as promised where rows are computed together."""
    assert len(pictures) == len(expected)
    for one, other in zip(pictures, expected, strict=True):
        assert one.shape == other.shape
        assert np.abs(one.astype(int) - other.astype(int)).max() <= 1


def test_a_request_is_told_of_from_its_first_step_to_one_last_word(kind, driver):
    _, said = driver.admit(kind.one, spec_for(kind.one, steps=4, images=2))
    driver.finish(said)
    assert said.steps == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert [name for name, _, _ in said.stages] == ["load", "encode", "denoise", "decode"]
    assert all(start_s <= end_s for _, start_s, end_s in said.stages)
    assert [(picture.shape, picture.dtype) for picture in said.pictures] == [((32, 32, 3), np.uint8)] * 2
    assert said.ends[0].gpu_ms > 0
    assert said.ends[0].peak_memory_bytes > 0
    assert not driver.engine.tick()
    assert said.after_the_end == []


MIXED = (
    {"seed": 1},
    {"seed": 2, "steps": 5, "guidance_scale": 1.0},
    {"seed": 3, "steps": 7, "guidance_scale": 7.5, "sampler": "euler_a"},
    {"seed": 4, "steps": 2, "images": 2, "sampler": "ddim"},
    {"seed": 5, "steps": 6, "width": 48, "height": 32},
    {"seed": 6, "negative_prompt": "green"},
)


def test_every_request_gets_the_picture_that_it_would_get_alone_whatever_its_neighbours(kind, driver):
    specs = [spec_for(kind.one, **fields) for fields in MIXED]
    asked = [driver.admit(kind.one, spec) for spec in specs]
    driver.finish(*(said for _, said in asked))
    for (_, said), spec in zip(asked, specs, strict=True):
        same(said.pictures, alone(kind, spec))
        assert said.steps == [(step, spec.steps) for step in range(1, spec.steps + 1)]
    assert len({said.pictures[0].tobytes() for _, said in asked}) == len(asked)


def test_picture_i_is_that_of_a_job_with_the_seed_i_later(kind, driver):
    together = driver.draw(kind.one, spec_for(kind.one, images=3, seed=2**32 - 2))  # seeds wrap around
    for picture, seed in zip(together, (2**32 - 2, 2**32 - 1, 0), strict=True):
        same((picture,), alone(kind, spec_for(kind.one, seed=seed)))


def test_a_request_joins_while_another_draws(kind, driver):
    _, long = driver.admit(kind.one, spec_for(kind.one, steps=100))
    driver.until(lambda: len(long.steps) >= 2)
    _, short = driver.admit(kind.one, spec_for(kind.one, steps=2, seed=9))
    driver.finish(short)
    assert not long.over
    driver.finish(long)
    same(long.pictures, alone(kind, spec_for(kind.one, steps=100)))
    same(short.pictures, alone(kind, spec_for(kind.one, steps=2, seed=9)))


def test_a_cancel_is_obeyed_at_once_and_the_neighbour_does_not_notice(kind, driver):
    (gone_id, gone), (_, stays) = (driver.admit(kind.one, spec_for(kind.one, steps=20, seed=s)) for s in (1, 2))
    driver.until(lambda: len(gone.steps) >= 2)
    assert driver.engine.cancel(gone_id)
    assert [type(end) for end in gone.ends] == [Cancelled]
    assert not driver.engine.cancel(gone_id)
    assert not driver.engine.cancel("never here")
    driver.finish(stays)
    same(stays.pictures, alone(kind, spec_for(kind.one, steps=20, seed=2)))
    assert (len(gone.ends), gone.after_the_end) == (1, [])


def test_what_waits_or_is_parked_can_be_cancelled_too(kind, driver):
    waiting_id, waiting = driver.admit(kind.one, spec_for(kind.one))
    assert driver.engine.cancel(waiting_id)
    parked_id, parked = driver.admit(kind.one, spec_for(kind.one, steps=9))
    driver.until(lambda: len(parked.steps) >= 1)
    assert driver.engine.park(parked_id)
    assert driver.engine.cancel(parked_id)
    assert [type(said.ends[0]) for said in (waiting, parked)] == [Cancelled, Cancelled]
    load = driver.engine.load()
    assert (load.drawing, load.waiting, load.parked, load.rows) == (0, 0, 0, 0)


@pytest.mark.parametrize("sampler", ["euler", "euler_a"])
def test_a_parked_request_frees_its_rows_stands_still_and_goes_on_to_the_same_picture(kind, driver, sampler):
    spec = spec_for(kind.one, steps=9, sampler=sampler)
    request_id, said = driver.admit(kind.one, spec)
    driver.until(lambda: len(said.steps) >= 4)
    assert driver.engine.park(request_id)
    assert not driver.engine.park(request_id)
    assert (driver.engine.load().rows, driver.engine.load().parked) == (0, 1)
    steps_then = list(said.steps)
    driver.draw(kind.one, spec_for(kind.one, seed=8))
    assert said.steps == steps_then
    assert driver.engine.resume(request_id)
    assert not driver.engine.resume(request_id)
    driver.finish(said)
    assert [step for step, _ in said.steps] == list(range(1, 10))
    same(said.pictures, alone(kind, spec))


def test_what_is_not_here_is_neither_parked_nor_resumed(driver):
    assert not driver.engine.park("never here")
    assert not driver.engine.resume("never here")


@pytest.mark.parametrize("sampler", ["euler", "euler_a"])
def test_another_engine_goes_on_from_a_checkpoint_to_the_same_picture(kind, driver, sampler):
    spec = spec_for(kind.one, steps=6, images=2, sampler=sampler)
    _, first = driver.admit(kind.one, spec)
    driver.finish(first)
    step, data = first.checkpoints[2]
    elsewhere = Driver(kind.make())
    _, second = elsewhere.admit(kind.one, spec, checkpoint=data)
    elsewhere.finish(second)
    assert [now for now, _ in second.steps] == list(range(step + 1, 7))
    same(second.pictures, first.pictures)
    elsewhere.engine.close()


def test_a_checkpoint_of_something_else_is_left_aside(kind, driver):
    _, other = driver.admit(kind.one, spec_for(kind.one, steps=5, seed=77))
    driver.finish(other)
    spec = spec_for(kind.one, steps=5, seed=78)
    for data in (other.checkpoints[1][1], b"no checkpoint at all", b"{}"):
        _, said = driver.admit(kind.one, spec, checkpoint=data)
        driver.finish(said)
        assert said.steps[0] == (1, 5)
        same(said.pictures, alone(kind, spec))


def test_a_request_that_cannot_be_drawn_leaves_the_others_as_they_are(kind, driver):
    wrong = replace(spec_for(kind.one), loras=(LoraUse("no such adapter"),))
    runs_away = replace(spec_for(kind.one, steps=6), guidance_scale=float("inf"))
    asked = [driver.admit(kind.one, spec) for spec in (spec_for(kind.one, steps=6, seed=1), wrong, runs_away)]
    good, unknown, poisoned = (said for _, said in asked)
    driver.finish(good, unknown, poisoned)
    assert isinstance(unknown.ends[0], Exception)
    assert isinstance(poisoned.ends[0], BadPictures)
    same(good.pictures, alone(kind, spec_for(kind.one, steps=6, seed=1)))
    same(driver.draw(kind.one, spec_for(kind.one)), alone(kind, spec_for(kind.one)))


def test_a_model_that_does_not_load_fails_its_own_requests_only(kind, driver):
    (_, lost), (_, good) = driver.admit(kind.broken, spec_for(kind.one)), driver.admit(kind.one, spec_for(kind.one))
    driver.finish(lost, good)
    assert isinstance(lost.ends[0], ModelBroken)
    assert kind.broken.model.pinned not in driver.engine.residency()
    same(good.pictures, alone(kind, spec_for(kind.one)))


def test_requests_of_two_models_all_end_however_many_they_are(kind, driver):
    asked = [
        (folder, spec, driver.admit(folder, spec)[1])
        for folder in (kind.one, kind.other)
        for spec in (spec_for(folder, seed=seed) for seed in range(6))
    ]
    driver.finish(*(said for _, _, said in asked))
    for folder, spec, said in asked[::5]:
        same(said.pictures, alone(kind, spec, folder))
    assert not np.array_equal(asked[0][2].pictures[0], asked[6][2].pictures[0])


def test_without_work_there_is_nothing_to_tick_for(kind, driver):
    assert not driver.engine.tick()
    driver.draw(kind.one, spec_for(kind.one))
    assert not driver.engine.tick()
    load = driver.engine.load()
    assert (load.drawing, load.waiting, load.parked, load.rows) == (0, 0, 0, 0)
    assert load.most_requests >= 1


def test_load_counts_rows_of_both_branches(kind, driver):
    for guidance in (1.0, 5.0):
        driver.admit(kind.one, spec_for(kind.one, steps=50, guidance_scale=guidance, images=2))
    driver.until(lambda: driver.engine.load().rows == 2 + 4)
    assert driver.engine.load().drawing == 2


def test_models_are_warmed_and_evicted_but_never_from_under_a_drawing(kind, driver):
    one, other = kind.one.model.pinned, kind.other.model.pinned
    driver.engine.warm(kind.one, Tier.VRAM)
    driver.engine.warm(kind.other, Tier.RAM)
    driver.until(lambda: set(driver.engine.residency()) == {one, other})
    driver.until(lambda: driver.engine.residency()[one] is Tier.VRAM)
    assert driver.engine.evict(other)
    assert set(driver.engine.residency()) == {one}
    assert not driver.engine.evict(other)
    _, said = driver.admit(kind.one, spec_for(kind.one, steps=9))
    driver.until(lambda: bool(said.steps))
    assert "load" not in [name for name, _, _ in said.stages]
    assert not driver.engine.evict(one)
    driver.finish(said)
    assert 0 < driver.engine.memory_bytes() < driver.engine.device.memory_bytes


def test_previews_come_only_when_asked_and_do_not_change_the_picture(kind, driver):
    (_, quiet), (_, shown) = (driver.admit(kind.one, spec_for(kind.one, preview=p)) for p in (False, True))
    driver.finish(quiet, shown)
    assert not quiet.previews
    assert shown.previews
    assert all(step < total and shape[-1] == 3 for step, total, _, shape in shown.previews)
    same(shown.pictures, quiet.pictures)
