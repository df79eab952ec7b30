"""One poisoned request ends alone: its neighbours' pictures are those of their solo runs, and the next one is served.

Real pipelines; parts of them are broken by hooks on their modules.
"""

from __future__ import annotations

from contextlib import contextmanager

import pytest
import torch
from diffusers import DDIMScheduler

from services.modelserver.engine.protocol import BadPictures, DeviceLost, OutOfMemory
from tests.contract.engine.harness import Stage, Wish, check
from tests.contract.engine.poison import (
    PROMPT,
    nan_for_victim,
    no_memory,
    raising_for_victim,
    raising_when,
)

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning")

PACKED = ("sd15", "sd3")
WIDE = (48, 32)


@pytest.fixture
def stage(one_thread):
    """An engine of its own for each test: what it learned from a lack of memory would help the next one."""
    stage = Stage()
    yield stage
    stage.engine.close()


class Neighbours:
    """Two requests unlike each other and unlike the victim beside it; afterwards one more."""

    def __init__(self, stage, folders, solos, family):
        self.stage, self.folders, self.solos, self.family = stage, folders, solos, family
        self.folder = folders[family]
        self.pipe = stage.pipe(self.folder)
        self.denoiser = getattr(self.pipe, "transformer", None) or self.pipe.unet

    def begin(self, *victims: Wish):
        """Let the victims and their neighbours begin; returns what is said of the victims."""
        wishes = (Wish(self.family, steps=4, seed=1), Wish(self.family, steps=6, guidance=1.0, seed=2, task="image"))
        self.admitted = [self.stage.admit(self.folder, wish) for wish in wishes]
        return [self.stage.admit(self.folder, wish)[2] for wish in victims]

    def finish(self, *victims):
        """Let everything end, and hold the neighbours against their solo runs."""
        self.stage.finish(*victims, *(said for _, _, said in self.admitted))
        for each in self.admitted:
            check(self.stage, self.folders, self.solos, *each)

    def serve_the_next(self):
        """Check that a request that comes afterwards is drawn, the victim's own prompt too."""
        for wish in (Wish(self.family, seed=3), Wish(self.family, prompt=PROMPT, size=WIDE)):
            each = self.stage.admit(self.folder, wish)
            self.stage.finish(each[2])
            check(self.stage, self.folders, self.solos, *each)
        load = self.stage.engine.load()
        assert (load.drawing, load.waiting, load.rows) == (0, 0, 0)


@pytest.fixture
def around(stage, folders, solos):
    return lambda family: Neighbours(stage, folders, solos, family)


def ended(said, kind):
    """Check that it ended once, with an error of this kind, and that nothing was said afterwards."""
    (end,) = said.ends
    assert isinstance(end, kind), end
    assert not said.after_the_end
    assert PROMPT not in str(end)


@pytest.mark.parametrize("family", PACKED)
def test_nan_in_one_row_ends_its_request_alone(around, family):
    with_neighbours = around(family)
    with nan_for_victim(with_neighbours.pipe, with_neighbours.denoiser) as seen:
        (said,) = with_neighbours.begin(Wish(family, prompt=PROMPT, steps=5, images=2))
        with_neighbours.finish(said)
    assert seen.shared
    ended(said, BadPictures)
    with_neighbours.serve_the_next()


@pytest.mark.parametrize("family", PACKED)
@pytest.mark.parametrize(("raised", "kind"), [(ZeroDivisionError("in a forward"), ZeroDivisionError), (no_memory(), OutOfMemory)])  # fmt: skip
def test_a_row_that_no_forward_survives_ends_its_request_alone(around, family, raised, kind):
    with_neighbours = around(family)
    with raising_for_victim(with_neighbours.pipe, with_neighbours.denoiser, raised) as seen:
        (said,) = with_neighbours.begin(Wish(family, prompt=PROMPT, steps=5))
        with_neighbours.finish(said)
    assert seen.shared
    ended(said, kind)
    with_neighbours.serve_the_next()


def test_an_exception_in_its_own_pipeline_ends_a_request_alone(around, monkeypatch):
    with_neighbours = around("sd15")
    step = DDIMScheduler.step

    def fails_at_the_second(self, *args, **kwargs):
        if self.has_stepped:
            raise ZeroDivisionError("in a sampler")
        self.has_stepped = True
        return step(self, *args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(DDIMScheduler, "has_stepped", False, raising=False)
        patched.setattr(DDIMScheduler, "step", fails_at_the_second)
        (said,) = with_neighbours.begin(Wish("sd15", prompt=PROMPT, steps=5, sampler="ddim"))
        with_neighbours.finish(said)
    assert said.steps == [(1, 5)]
    ended(said, ZeroDivisionError)
    with_neighbours.serve_the_next()


@pytest.mark.parametrize(("family", "most"), [("sd15", 1), ("sd15", 3), ("sd3", 2)])
def test_a_batch_too_large_for_memory_is_made_smaller_and_nobody_ends(around, family, most):
    with_neighbours = around(family)
    with raising_when(with_neighbours.denoiser, no_memory(), lambda rows: len(rows) > most) as passed:
        (said,) = with_neighbours.begin(Wish(family, prompt=PROMPT, steps=5, images=2))
        with_neighbours.finish(said)
    assert max(passed) > most // 2  # halves of what did not fit, and not smaller
    assert with_neighbours.stage.engine.stats().splits > 0
    assert len(said.pictures) == 2
    with_neighbours.serve_the_next()


@pytest.mark.parametrize("family", PACKED)
def test_a_size_that_never_fits_ends_its_requests_alone(around, family):
    with_neighbours = around(family)
    with raising_when(with_neighbours.denoiser, no_memory(), lambda rows: rows.shape[-1] > rows.shape[-2]):
        saids = with_neighbours.begin(Wish(family, size=WIDE), Wish(family, size=WIDE, guidance=1.0, seed=4))
        with_neighbours.finish(*saids)
    for said in saids:
        ended(said, OutOfMemory)
    with_neighbours.serve_the_next()


@pytest.mark.parametrize(("raised", "kind"), [(no_memory(), OutOfMemory), (ZeroDivisionError("in a text encoder"), ZeroDivisionError)])  # fmt: skip
def test_a_prompt_that_cannot_be_encoded_ends_its_request_alone(around, raised, kind):
    with_neighbours = around("sd15")
    tokens = torch.tensor(with_neighbours.pipe.tokenizer(PROMPT, padding="max_length", truncation=True).input_ids)
    with raising_when(with_neighbours.pipe.text_encoder, raised, lambda ids: bool((ids == tokens).all())):
        (said,) = with_neighbours.begin(Wish("sd15", prompt=PROMPT))
        with_neighbours.finish(said)
    ended(said, kind)
    assert not said.steps
    with_neighbours.serve_the_next()


def test_a_picture_that_cannot_be_encoded_ends_its_request_alone(around):
    with_neighbours = around("sd15")
    with raising_when(with_neighbours.pipe.vae.encoder, no_memory(), lambda pixels: pixels.shape[-1] == WIDE[0]):
        (said,) = with_neighbours.begin(Wish("sd15", prompt=PROMPT, task="image", size=WIDE))
        with_neighbours.finish(said)
    ended(said, OutOfMemory)
    with_neighbours.serve_the_next()


def test_pictures_that_cannot_be_decoded_together_are_decoded_singly(around):
    with_neighbours = around("sd15")
    with raising_when(with_neighbours.pipe.vae.decoder, no_memory(), lambda latents: len(latents) > 1) as passed:
        victims = with_neighbours.begin(Wish("sd15", steps=4, seed=5), Wish("sd15", steps=4, images=2))
        with_neighbours.finish(*victims)
    assert set(passed) == {1}
    assert [len(said.pictures) for said in victims] == [1, 2]
    with_neighbours.serve_the_next()


@pytest.mark.parametrize(("raised", "kind"), [(no_memory(), OutOfMemory), (ZeroDivisionError("in a decoder"), ZeroDivisionError)])  # fmt: skip
def test_a_picture_that_cannot_be_decoded_ends_its_request_alone(around, raised, kind):
    with_neighbours = around("sd15")
    with decoder_failing_for_victim(with_neighbours, raised):
        (said,) = with_neighbours.begin(Wish("sd15", prompt=PROMPT, steps=4))
        with_neighbours.finish(said)
    ended(said, kind)
    assert len(said.steps) == 4
    with_neighbours.serve_the_next()


@contextmanager
def decoder_failing_for_victim(around, raised):
    """Let every decode fail that holds the victim's latents; they are known once its last step is done."""
    vae = around.pipe.vae

    def is_victims(latents):
        shown = around.stage.latents.get(around.victim_id)
        return shown is not None and bool((latents == shown[0] / vae.config.scaling_factor).flatten(1).all(1).any())

    around.victim_id = "a3"  # the third that is admitted
    with raising_when(vae.post_quant_conv, raised, is_victims):
        yield


class Alike:
    """Three requests that share one call of a pipeline; the second one is the victim."""

    def __init__(self, around):
        self.around = around("wan")
        self.pipe, self.stage = self.around.pipe, self.around.stage

    def draw(self):
        """Draw them to their ends."""
        prompts = enumerate(("sea", PROMPT, "hills"))
        wishes = [Wish("wan", steps=3, seed=seed, prompt=prompt) for seed, prompt in prompts]
        self.admitted = [self.stage.admit(self.around.folder, wish) for wish in wishes]
        self.stage.finish(*(said for _, _, said in self.admitted))

    def check(self, kind):
        """Check that the victim alone ended so, and that the next request is served."""
        ended(self.admitted[1][2], kind)
        for request_id, wish, said in (self.admitted[0], self.admitted[2]):
            assert said.steps[-3:] == [(1, 3), (2, 3), (3, 3)]
            said.steps = said.steps[-3:]  # those of the shared call were told before, where it came so far
            check(self.stage, self.around.folders, self.around.solos, request_id, wish, said)
        self.around.serve_the_next()


@pytest.fixture
def alike(around):
    return Alike(around)


def test_nan_in_one_clip_of_a_shared_call_ends_its_request_alone(alike):
    with nan_for_victim(alike.pipe, alike.pipe.transformer) as seen:
        alike.draw()
    assert seen.shared
    alike.check(BadPictures)


def test_a_prompt_of_a_shared_call_that_cannot_be_encoded_ends_its_request_alone(alike):
    tokens = torch.tensor(alike.pipe.tokenizer(PROMPT).input_ids)

    def is_victims(ids):
        return len(tokens) <= ids.shape[1] and bool((ids[:, : len(tokens)] == tokens).all(dim=1).any())

    with raising_when(alike.pipe.text_encoder, ZeroDivisionError("in a text encoder"), is_victims):
        alike.draw()
    alike.check(ZeroDivisionError)


def test_nan_in_one_clip_while_a_shared_call_is_decoded_ends_its_request_alone(alike):
    with nan_for_second_decoded(alike.pipe.vae.post_quant_conv) as rows:
        alike.draw()
    assert max(rows) == 3
    alike.check(BadPictures)


def test_nan_in_one_picture_decoded_with_others_ends_its_request_alone(around):
    with_neighbours = around("sd15")
    with nan_for_second_decoded(with_neighbours.pipe.vae.post_quant_conv) as rows:
        saids = with_neighbours.begin(*(Wish("sd15", steps=4, seed=seed) for seed in (5, 6, 7)))
        with_neighbours.stage.finish(*saids, *(said for _, _, said in with_neighbours.admitted))
    assert max(rows) > 1
    ends = [said.ends[0] for said in (*saids, *(said for _, _, said in with_neighbours.admitted))]
    assert sorted(isinstance(end, BadPictures) for end in ends) == [False] * 4 + [True]
    with_neighbours.serve_the_next()


@contextmanager
def nan_for_second_decoded(first_layer):
    """Let the second of the first latents that are decoded together come out as NaN, whatever they are decoded with."""
    victims, rows = [], []

    def spoil(_module, args, output):
        latents = args[0]
        rows.append(len(latents))
        if not victims and len(latents) > 1:
            victims.append(latents[1].clone())
        spoilt = output.clone()
        for index, row in enumerate(latents):
            if victims and torch.allclose(row, victims[0], atol=1e-3):
                spoilt[index] = float("nan")
        return spoilt

    hook = first_layer.register_forward_hook(spoil)
    yield rows
    hook.remove()


def test_a_lost_device_ends_everything_with_that_word(around):
    with_neighbours = around("sd15")
    stage = with_neighbours.stage
    resting_id, _, resting = stage.admit(with_neighbours.folder, Wish("sd15", steps=9))
    while not resting.steps:
        assert stage.turn()
    assert stage.engine.park(resting_id)
    with raising_when(with_neighbours.denoiser, torch.AcceleratorError("device-side assert"), lambda rows: True):
        saids = with_neighbours.begin(Wish("sd15"), Wish("sd15", size=WIDE))
        saids += [said for _, _, said in with_neighbours.admitted]
        stage.finish(*saids)
    for said in (*saids, resting):
        ended(said, DeviceLost)
