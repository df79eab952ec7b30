"""Whatever its neighbours are, and whenever they come, rest and go: a picture equals its solo run in plain diffusers.

Random workloads over the families, made by hypothesis: mixed steps, guidance, samplers, tasks, sizes, numbers of
pictures. What is compared with is solo.py; how far it may differ is written in harness.py.
"""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.contract.engine.families import FAMILIES, FRAMES, SIZES
from tests.contract.engine.harness import Stage, Wish, check, play

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning")

STILLS = [name for name in FAMILIES if name not in FRAMES]
SWAPPED = ("sd15", "sdxl", "sd3", "qwen")
EXCHANGEABLE = ("euler", "euler_a", "ddim", "dpmpp_2m", "unipc", "lcm")
SAMPLERS = {"sd15": EXCHANGEABLE, "sd2_v": EXCHANGEABLE, "sdxl": EXCHANGEABLE, "animatediff": EXCHANGEABLE}
PROMPTS = ("a red circle", "a blue square over green stars at night", "many words " * 8)
GUIDANCE = (0.0, 1.0, 2.5, 7.0)


@pytest.fixture(scope="module")
def stage(one_thread):
    stage = Stage()
    yield stage
    stage.engine.close()


@pytest.fixture(scope="module")
def cramped(one_thread):
    """A device that holds one model, or two small ones."""
    stage = Stage(weight_bytes=700_000)
    yield stage
    stage.engine.close()


@st.composite
def wishes(draw, family: str) -> Wish:
    """A request to a model of a family, and its fate."""
    moving = family in FRAMES
    tasks = {"svd": ["image"]}.get(family, ["text"] if moving else ["text", "text", "image", "inpaint"])
    task = draw(st.sampled_from(tasks))
    drawn_over = task != "text" and not moving
    maybe_step = st.none() | st.integers(0, 6)
    return Wish(
        family=family,
        task=task,
        sampler=draw(st.sampled_from(SAMPLERS.get(family, ("",)))),
        steps=draw(st.integers(2 if drawn_over else 1, 4 if moving else 8)),
        guidance=draw(st.sampled_from(GUIDANCE)),
        seed=draw(st.integers(0, 2)),
        images=1 if moving else draw(st.integers(1, 2)),
        size=draw(st.sampled_from(SIZES)),
        prompt=draw(st.sampled_from(PROMPTS)),
        negative=draw(st.sampled_from(("", "", "fog"))),
        strength=draw(st.sampled_from((0.6, 1.0))) if drawn_over else None,
        joins_at=draw(st.integers(0, 5)),
        leaves_at=draw(maybe_step) if draw(st.integers(0, 5)) == 5 else None,
        rests_at=draw(maybe_step),
        rest=draw(st.integers(1, 6)),
        rests_for_ever=draw(st.integers(0, 5)) == 5,
        evicts_at=draw(st.none() | st.integers(0, 20)),
        preview=draw(st.booleans()),
    )


@st.composite
def workloads(draw, stills=STILLS, moving=tuple(FRAMES)) -> list[Wish]:
    """Two to six requests to one or two families, a moving one in one of four; some with a twin in other words.

    Requests to moving families share a call only when they are alike in everything else.
    """
    families = draw(st.lists(st.sampled_from(stills), min_size=1, max_size=2, unique=True))
    if moving and draw(st.integers(0, 3)) == 3:
        families[-1] = draw(st.sampled_from(moving))
    wished = draw(st.lists(st.sampled_from(families).flatmap(wishes), min_size=2, max_size=5))
    if draw(st.booleans()):
        wished.append(dataclasses.replace(wished[-1], seed=7, prompt="hills", leaves_at=None))
    return wished


def every_picture_equals_its_solo_run(folders, stage, solos, workload):
    for request_id, (wish, said) in play(stage, folders, workload).items():
        check(stage, folders, solos, request_id, wish, said)


_NO_HURRY = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture]
_ALWAYS = settings(derandomize=True, database=None, deadline=None, suppress_health_check=_NO_HURRY)
_ANEW = settings(database=None, deadline=None, print_blob=True, suppress_health_check=_NO_HURRY)


@given(workload=workloads())
@settings(_ALWAYS, max_examples=40)
def test_every_picture_equals_its_solo_run(folders, stage, solos, workload):
    every_picture_equals_its_solo_run(folders, stage, solos, workload)


@pytest.mark.slow
@pytest.mark.timeout(900)
@given(workload=workloads())
@settings(_ANEW, max_examples=200)
def test_every_picture_equals_its_solo_run_in_many_workloads(folders, stage, solos, workload):
    every_picture_equals_its_solo_run(folders, stage, solos, workload)


@given(workload=workloads(SWAPPED, ()))
@settings(_ALWAYS, max_examples=10)
def test_every_picture_equals_its_solo_run_while_models_take_turns_on_the_device(folders, cramped, solos, workload):
    every_picture_equals_its_solo_run(folders, cramped, solos, workload)


@pytest.mark.slow
@pytest.mark.timeout(900)
@given(workload=workloads(SWAPPED, ()))
@settings(_ANEW, max_examples=100)
def test_every_picture_equals_its_solo_run_in_many_turns(folders, cramped, solos, workload):
    every_picture_equals_its_solo_run(folders, cramped, solos, workload)
