"""What one tick does: who joins it, who leaves it, how many rows share it; and that resting changes no picture."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from services.modelserver.engine.batcher import table_key_of
from services.modelserver.engine.protocol import ModelLoad
from tests.contract.engine.harness import Folders, Stage, Wish, check
from tests.contract.engine.poison import no_memory, raising_when

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning")

PACKED = ("sd15", "sdxl", "sd3", "flux", "qwen", "zimage")
UNHEARD = "a prompt that nobody has asked for"
LONG = 100


@pytest.fixture(scope="module")
def narrow_folders(tmp_path_factory):
    """Models that take the two rows of one guided request at a time."""
    return Folders(tmp_path_factory.mktemp("narrow"), "most_rows = 2")


@pytest.fixture
def stage(one_thread):
    stage = Stage()
    yield stage
    stage.engine.close()


@pytest.fixture(scope="module")
def strict_folders(tmp_path_factory):
    """Models whose forwards all have the same number of rows."""
    return Folders(tmp_path_factory.mktemp("strict"), "strict = true")


def running(stage, folder, wish=None, steps=3):
    """Admit a request of 100 steps and let it take some."""
    admitted = stage.admit(folder, wish or Wish("sd15", steps=LONG))
    while len(admitted[2].steps) < steps:
        assert stage.turn()
    return admitted


def test_with_a_free_row_a_request_joins_a_running_batch_within_one_tick(stage, folders):
    _, _, long_one = running(stage, folders["sd15"])
    before = len(long_one.steps)
    _, _, newcomer = stage.admit(folders["sd15"], Wish("sd15", seed=1, guidance=2.0, sampler="ddim"))
    stage.engine.tick()
    assert newcomer.steps == [(1, 3)]
    assert len(long_one.steps) == before + 1


def test_a_prompt_is_encoded_beside_the_batch_and_joins_the_tick_that_hears_of_it(stage, folders):
    _, _, long_one = running(stage, folders["sd15"])
    _, _, newcomer = stage.admit(folders["sd15"], Wish("sd15", prompt=UNHEARD))
    while not newcomer.stages:
        before = len(long_one.steps)
        assert stage.engine.tick()
        assert len(long_one.steps) == before + 1  # it does not wait for the encoder
    assert [name for name, _, _ in newcomer.stages] == ["encode"]
    assert newcomer.steps == [(1, 3)]


def test_without_a_free_row_a_park_frees_one_within_one_tick(stage, narrow_folders, solos):
    folder = narrow_folders["sd15"]
    long_id, _, long_one = resting = running(stage, folder, Wish("sd15", steps=12, sampler="euler_a"))
    urgent = stage.admit(folder, Wish("sd15", seed=1))
    for _ in range(3):
        stage.engine.tick()
    assert not urgent[2].steps
    assert stage.engine.park(long_id)
    stage.engine.tick()
    assert urgent[2].steps == [(1, 3)]
    rested_at = len(long_one.steps)
    stage.finish(urgent[2])
    assert len(long_one.steps) == rested_at
    assert stage.engine.resume(long_id)
    stage.finish(long_one)
    for each in (resting, urgent):
        check(stage, narrow_folders, solos, *each)


RESTING = [
    *(Wish("sd15", sampler=name) for name in ("euler", "euler_a", "ddim", "dpmpp_2m", "unipc", "lcm")),
    *(Wish("sdxl", sampler=name, guidance=1.0) for name in ("euler_a", "dpmpp_2m")),
    *(Wish(family) for family in (*PACKED[2:], "animatediff", "wan")),
    Wish("svd", task="image"),
    Wish("sd15", task="image", sampler="euler_a", images=2),
    Wish("sdxl", task="inpaint", sampler="euler_a"),
    Wish("flux", task="inpaint", images=2),
    Wish("qwen", task="image", guidance=1.0),
    Wish("zimage", task="inpaint"),
]
FIVE_STEPS = [
    pytest.param(dataclasses.replace(wish, steps=5), id=f"{wish.family}-{wish.task}-{wish.sampler}") for wish in RESTING
]


@pytest.fixture(scope="module")
def here(one_thread):
    """An engine that hands over a checkpoint after each step."""
    stage = Stage(due=lambda step, total, since_s, eta_s: True)
    yield stage
    stage.engine.close()


@pytest.fixture(scope="module")
def elsewhere(one_thread):
    stage = Stage()
    yield stage
    stage.engine.close()


def drawn(stage, folder, wish, **more):
    """Draw a request to its end; returns what was said of it."""
    said = stage.admit(folder, wish, **more)[2]
    stage.finish(said)
    return said


def same(ours, expected):
    """Check that nothing differs, not by the last bit."""
    for one, other in zip(ours, expected, strict=True):
        assert np.array_equal(one, other)


@pytest.mark.parametrize("wish", FIVE_STEPS)
def test_resting_changes_nothing(here, folders, wish):
    folder = folders[wish.family]
    expected = drawn(here, folder, wish)
    request_id, _, rested = running(here, folder, wish, steps=2)
    assert here.engine.park(request_id)
    assert not here.turn()  # nothing else is there to do
    assert here.engine.resume(request_id)
    here.finish(rested)
    assert rested.steps == expected.steps
    same(rested.pictures, expected.pictures)


@pytest.mark.parametrize("wish", FIVE_STEPS)
def test_another_engine_goes_on_from_a_checkpoint_and_changes_nothing(here, elsewhere, folders, wish):
    folder = folders[wish.family]
    expected = drawn(here, folder, wish)
    assert [step for step, _ in expected.checkpoints] == [step for step, _ in expected.steps[:-1]]
    for step, data in (expected.checkpoints[0], expected.checkpoints[-1]):
        resumed = drawn(elsewhere, folder, wish, checkpoint=data)
        assert resumed.steps == expected.steps[step:]
        same(resumed.pictures, expected.pictures)


@pytest.mark.parametrize("spoil", ["another seed", "another model", "cut", "no checkpoint at all"])
def test_a_checkpoint_that_does_not_belong_to_a_request_is_left_aside(here, elsewhere, folders, solos, spoil):
    wish, family = Wish("sd15", steps=4), "sdxl" if spoil == "another model" else "sd15"
    other = Wish(family, steps=4, seed=1 if spoil == "another seed" else 0)
    data = drawn(here, folders[family], other).checkpoints[1][1]
    data = {"cut": data[:-7], "no checkpoint at all": b"{}"}.get(spoil, data)
    each = elsewhere.admit(folders["sd15"], wish, checkpoint=data)
    elsewhere.finish(each[2])
    check(elsewhere, folders, solos, *each)


@pytest.mark.parametrize("family", PACKED)
def test_requests_share_their_forwards(stage, folders, solos, family):
    folder = folders[family]
    pipe = stage.pipe(folder)
    for images in (1, 2):
        drawn(stage, folder, Wish(family, steps=1, images=images))  # from now on its prompts are known
    together = [
        Wish(family, steps=3, seed=1),
        Wish(family, steps=8, seed=2, guidance=2.0),
        Wish(family, steps=5, seed=3, images=2),
    ]
    with raising_when(getattr(pipe, "transformer", None) or pipe.unet, no_memory(), lambda rows: False) as rows:
        admitted = [stage.admit(folder, wish) for wish in together]
        stage.finish(*(said for _, _, said in admitted))
    calls_a_step, rows_a_call = {"qwen": (2, 1), "flux": (1, 1)}.get(family, (1, 2))
    assert len(rows) == 8 * calls_a_step  # those of the longest alone
    assert sum(rows) == calls_a_step * rows_a_call * sum(wish.steps * wish.images for wish in together)
    for each in admitted:
        check(stage, folders, solos, *each)


def test_requests_share_a_pipelines_call_whoever_waits_between_them(stage, narrow_folders, solos):
    folder = narrow_folders["wan"]
    pipe = stage.pipe(folder)
    wishes = [Wish("wan", steps=steps, guidance=1.0, seed=steps) for steps in (3, 2, 3)]
    with raising_when(pipe.transformer, no_memory(), lambda rows: False) as rows:
        admitted = [stage.admit(folder, wish) for wish in wishes]
        stage.finish(*(said for _, _, said in admitted))
    assert sorted(rows) == [1, 1, 2, 2, 2]
    for each in admitted:
        check(stage, narrow_folders, solos, *each)


def test_nothing_is_kept_for_a_gradient_whoever_comes_and_goes(stage, folders):
    """Pipelines switch gradients off for the thread and back on when they end, each in the midst of the others."""
    folder = folders["sd15"]
    seen = []
    hook = stage.pipe(folder).unet.register_forward_hook(
        lambda _module, _inputs, output: seen.append(torch.is_grad_enabled() or output[0].requires_grad)
    )
    admitted = [stage.admit(folder, Wish("sd15", steps=steps, seed=steps)) for steps in (1, 6, 2, 4)]
    stage.finish(*(said for _, _, said in admitted))
    hook.remove()
    assert seen
    assert not any(seen)
    assert torch.is_grad_enabled()


def test_models_and_sizes_that_cannot_share_take_turns(stage, folders):
    for family in ("sd15", "sd3"):
        drawn(stage, folders[family], Wish(family, steps=1))
    wishes = [Wish("sd15", steps=12), Wish("sd3", steps=12), Wish("sd15", steps=12, size=(48, 32))]
    said = [stage.admit(folders[wish.family], wish)[2] for wish in wishes]
    while not all(one.over for one in said):
        assert stage.turn()
        steps = [len(one.steps) for one in said]
        assert max(steps) - min(steps) <= 1


@pytest.mark.parametrize("family", [*PACKED, "wan"])
def test_a_strict_model_draws_the_same_bits_whatever_is_drawn_beside(stage, strict_folders, family):
    folder = strict_folders[family]
    wish = Wish(family, steps=4, images=1 if family == "wan" else 2)
    neighbours = [dataclasses.replace(wish, seed=3, prompt="sea"), Wish(family, steps=6, seed=4, guidance=2.0)]
    if family != "wan":
        neighbours += [
            Wish(family, steps=3, seed=5, task="image"),
            Wish(family, steps=2, seed=6, guidance=1.0, prompt="a blue square at night " * 4),
        ]
    alone, *_ = stage.admit(folder, wish)
    stage.finish_all()
    among, *_ = [stage.admit(folder, each)[0] for each in (wish, *neighbours)]
    stage.finish_all()
    assert torch.equal(stage.latents[among], stage.latents[alone])


def test_it_tells_what_it_measured_of_the_models_on_the_device(stage, narrow_folders, folders):
    narrow, wide = narrow_folders["sd15"], folders["sdxl"]
    assert stage.engine.load().models == ()
    running(stage, narrow, Wish("sd15", steps=LONG, guidance=5.0))
    running(stage, wide, Wish("sdxl", steps=LONG, guidance=5.0))
    told = {each.pinned: each for each in stage.engine.load().models}
    bucket = table_key_of(stage.engine._runs.all[0].request, "denoise").bucket
    assert told[narrow.model.pinned] == ModelLoad(narrow.model.pinned, 2, ((bucket, 2),))
    assert told[wide.model.pinned].rows == 2
    assert dict(told[wide.model.pinned].most)[bucket] >= 1
    assert (stage.engine.load().free_bytes or 0) > 0
