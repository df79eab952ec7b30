"""The promises of `Engine`, checked on every engine and on a random and the shipped model."""

from __future__ import annotations

import numpy as np
import pytest

from libs.generation.spec import SpecRequest, resolve
from services.modelserver.engine.protocol import BadPictures, Cancelled, OutOfMemory

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning")

PROMPT = "a red circle left of a blue square"


class Said:
    """Keeps what an engine says; asks it to stop after `stop_after` steps."""

    def __init__(self, stop_after: int = 10**6) -> None:
        self.steps: list[tuple[int, int]] = []
        self.stages: list[tuple[str, float, float]] = []
        self.previews: list[tuple[int, int, tuple[int, ...]]] = []
        self._stop_after = stop_after

    def step(self, step, total):
        self.steps.append((step, total))

    def preview(self, step, total, index, pixels):
        self.previews.append((step, index, pixels.shape))

    def stage(self, name, start_s, end_s):
        self.stages.append((name, start_s, end_s))

    def cancelled(self):
        return len(self.steps) >= self._stop_after


def _spec(setup, **fields):
    request = SpecRequest(**{"prompt": PROMPT, "steps": 3, "seed": 5, **fields})
    return resolve(request, setup.folder.model, fresh_seed=0)


def _draw(setup, said=None, **fields):
    return setup.engine.draw(setup.folder.model.pinned, _spec(setup, **fields), said or Said()).pictures


def test_the_same_seed_gives_the_same_picture_and_another_seed_another(setup):
    (first,), (again,), (other,) = _draw(setup), _draw(setup), _draw(setup, seed=6)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_pictures_have_the_size_that_was_asked_for(setup):
    spec = _spec(setup, images=2)
    pictures = _draw(setup, images=2)
    assert [(p.shape, p.dtype) for p in pictures] == [((spec.height, spec.width, 3), np.uint8)] * 2


def test_picture_i_is_what_a_job_of_its_own_with_seed_plus_i_gives(setup):
    together = _draw(setup, images=3, seed=2**32 - 2)  # seeds wrap around
    alone = [_draw(setup, seed=seed)[0] for seed in (2**32 - 2, 2**32 - 1, 0)]
    for one, other in zip(together, alone, strict=True):
        assert np.abs(one.astype(int) - other.astype(int)).max() <= 1
    assert not np.array_equal(together[0], together[1])


def test_every_sampler_draws_and_repeats_itself(setup):
    for sampler in setup.folder.model.limits.samplers:
        assert np.array_equal(_draw(setup, sampler=sampler), _draw(setup, sampler=sampler)), sampler


def test_progress_ascends_from_the_first_step_to_the_last(setup):
    said = Said()
    _draw(setup, said, steps=4)
    assert said.steps == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_stages_follow_each_other_and_cover_the_drawing(setup):
    said = Said()
    _draw(setup, said)
    assert [name for name, _, _ in said.stages] == ["encode", "denoise", "decode"]
    assert all(start_s <= end_s for _, start_s, end_s in said.stages)


def test_a_cancel_is_obeyed_at_the_next_step_and_the_next_drawing_is_whole(setup):
    expected, said = _draw(setup), Said(stop_after=2)
    with pytest.raises(Cancelled):
        _draw(setup, said, steps=50)
    assert len(said.steps) == 2
    assert np.array_equal(_draw(setup), expected)


def test_nan_fails_its_drawing_alone(setup):
    expected = _draw(setup)
    with setup.broken(None), pytest.raises(BadPictures):
        _draw(setup)
    assert np.array_equal(_draw(setup), expected)


@pytest.mark.parametrize(
    ("raised", "seen"),
    [(ZeroDivisionError("in a forward"), ZeroDivisionError), (MemoryError(), (OutOfMemory, MemoryError))],
)
def test_an_exception_fails_its_drawing_alone(setup, raised, seen):
    expected = _draw(setup)
    with setup.broken(raised), pytest.raises(seen):
        _draw(setup)
    assert np.array_equal(_draw(setup), expected)


def test_previews_come_only_when_asked_and_do_not_change_the_picture(setup):
    quiet, shown = Said(), Said()
    without, with_previews = _draw(setup, quiet), _draw(setup, shown, preview=True)
    assert np.array_equal(without, with_previews)
    assert not quiet.previews
    assert shown.previews
    assert all(step < 3 and index == 0 and shape[-1] == 3 for step, index, shape in shown.previews)


def test_the_model_is_resident_and_memory_is_told(setup):
    assert setup.engine.resident == (setup.folder.model.pinned,)
    assert 0 < setup.engine.memory_bytes() < setup.engine.device.memory_bytes
