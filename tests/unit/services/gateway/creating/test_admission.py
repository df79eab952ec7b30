from __future__ import annotations

import asyncio
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from darkroom.v1 import job_pb2
from libs.clients.limiter import Denial
from libs.clients.scheduler import FoundJob, Submitted
from libs.errors import (
    DarkroomError,
    InvalidRequest,
    LimitExceeded,
    NotFound,
    PreconditionFailed,
    Unavailable,
)
from libs.generation.cost import CostTable
from libs.generation.model import Model, ModelDefaults, ModelLimits
from libs.generation.spec import SpecRequest, resolve
from libs.rpc import headers
from libs.testing.clock import ManualClock
from libs.wire.spec import request_digest
from services.gateway.creating.admission import SETTLING_S, Admission
from services.gateway.creating.cheaper import Room, cheaper
from services.gateway.creating.drafts import Draft
from tests.unit.services.gateway.fakes import CALLER, MODEL, FakeLimiter, FakeScheduler, catalog, job, uploads

DRAFT = Draft(job_pb2.JobSpec(prompt="a circle", seed=3), "once")
DIGEST = request_digest(DRAFT.request)


class Bench:
    """An admission on fakes that write one log."""

    def __init__(self, *models: Model) -> None:
        self.scheduler, self.limiter = FakeScheduler(), FakeLimiter()
        self.log = self.limiter.log = self.scheduler.log
        self.died, self.clock = False, ManualClock()
        self.admission = Admission(
            self.scheduler,
            self.limiter,
            catalog(*(models or (MODEL,))),
            uploads(),
            self.clock,
            lambda: self.log.append("between"),
        )

    async def refused(self, draft: Draft = DRAFT) -> DarkroomError:
        with pytest.raises(DarkroomError) as caught:
            await self.admission.admit(CALLER, draft)
        return caught.value


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def test_the_order_of_the_main_path(bench: Bench) -> None:
    admitted = await bench.admission.admit(CALLER, DRAFT)
    assert bench.log == ["find", "reserve", "between", "submit"]
    (submission,), (reservation,) = bench.scheduler.submissions, bench.limiter.reserved
    assert submission.job_id == reservation.reservation_id
    assert submission.estimated_units == reservation.units > 0
    assert (submission.tenant_id, submission.tier, submission.key_id) == ("acme", "pro", "key_1")
    assert (submission.model, submission.model_version) == ("shapes", "shapes@abc")
    assert (submission.request_id, submission.request_digest) == ("once", DIGEST)
    assert (submission.spec.width, submission.spec.seed) == (512, 3)
    assert not admitted.replayed


def in_flight(retry_after_s: float) -> Denial:
    return Denial("in_flight", 4.0, 0.0, retry_after_s)


async def test_a_place_whose_job_has_just_ended_is_waited_for(bench: Bench) -> None:
    bench.limiter.denials = [in_flight(1.0), in_flight(1.0)]
    admitted = asyncio.create_task(bench.admission.admit(CALLER, DRAFT))
    await bench.clock.advance(sum(SETTLING_S))
    assert not (await admitted).replayed
    assert len({reservation.reservation_id for reservation in bench.limiter.reserved}) == 1
    assert bench.log == ["find", "reserve", "reserve", "reserve", "between", "submit"]


@pytest.mark.parametrize(
    ("denials", "asked"), [([in_flight(1.0)] * 3, 3), ([in_flight(2.0)], 1), ([Denial("requests", 60.0, 0.0, 1.0)], 1)]
)
async def test_what_stays_refused_or_is_not_due_is_told(bench: Bench, denials: list[Denial], asked: int) -> None:
    bench.limiter.denials = list(denials)
    refused = asyncio.create_task(bench.refused())
    await bench.clock.advance(sum(SETTLING_S))
    assert isinstance(await refused, LimitExceeded)
    assert bench.log == ["find", *["reserve"] * asked]


async def test_without_a_key_nothing_is_looked_up(bench: Bench) -> None:
    await bench.admission.admit(CALLER, Draft(DRAFT.spec))
    assert bench.log == ["reserve", "between", "submit"]


async def test_limit_headers_are_added_whether_taken_or_not(bench: Bench) -> None:
    collected = headers.begin()
    await bench.admission.admit(CALLER, DRAFT)
    assert collected == {"x-ratelimit-remaining-cost": "5"}
    bench.limiter.denial = Denial("requests", 60, 0, 3)
    collected = headers.begin()
    await bench.refused()
    assert collected == {"x-ratelimit-remaining-cost": "5"}


async def test_a_used_key_answers_its_job_and_spends_nothing(bench: Bench) -> None:
    bench.scheduler.known = FoundJob(job(), DIGEST)
    admitted = await bench.admission.admit(CALLER, DRAFT)
    assert (admitted.replayed, admitted.job, bench.log) == (True, job(), ["find"])


async def test_a_used_key_with_another_request_is_refused(bench: Bench) -> None:
    bench.scheduler.known = FoundJob(job(), "another")
    error = await bench.refused()
    assert (error.reason, error.metadata["job_id"], bench.log) == ("IDEMPOTENCY_KEY_REUSED", job().id, ["find"])


async def test_a_lost_race_gives_its_own_reservation_back(bench: Bench) -> None:
    bench.scheduler.submitted = Submitted(job(), True, DIGEST)
    admitted = await bench.admission.admit(CALLER, DRAFT)
    assert admitted.replayed
    assert bench.limiter.released == [bench.limiter.reserved[0].reservation_id]
    bench.scheduler.submitted = Submitted(job(), True, "another")
    assert (await bench.refused()).reason == "IDEMPOTENCY_KEY_REUSED"
    assert len(bench.limiter.released) == 2


@pytest.mark.parametrize(
    ("failure", "released"),
    [
        (InvalidRequest("no"), True),
        (Unavailable("full", reason="QUEUE_FULL"), True),
        (Unavailable("the outcome is unknown"), False),
        (Unavailable("lost", metadata={"part": "scheduler"}), False),
    ],
)
async def test_only_what_surely_was_not_committed_is_given_back(
    bench: Bench, failure: DarkroomError, released: bool
) -> None:
    bench.scheduler.failure = failure
    draft = Draft(DRAFT.spec)
    error = await bench.refused(draft)
    assert (type(error), error.reason, error.metadata) == (type(failure), failure.reason, failure.metadata)
    assert (error is failure) is released
    assert ("not known" in error.message) is not released
    assert bool(bench.limiter.released) is released


async def test_a_release_that_fails_hides_nothing(bench: Bench) -> None:
    bench.scheduler.failure = InvalidRequest("no")
    bench.limiter.release_failure = Unavailable("away", reason="LIMITER_DEGRADED")
    assert await bench.refused(Draft(DRAFT.spec)) is bench.scheduler.failure


async def test_validate_only_prices_and_touches_nothing(bench: Bench) -> None:
    spec = job_pb2.JobSpec(prompt="a", validate_only=True)
    admitted = await bench.admission.admit(CALLER, Draft(spec, "once"))
    assert bench.log == []
    assert (admitted.job.id, admitted.job.model_version, admitted.job.spec.steps) == ("", "shapes@abc", 20)
    assert admitted.job.cost.estimated_units > 0


async def test_a_bad_request_costs_nothing(bench: Bench) -> None:
    assert isinstance(await bench.refused(Draft(job_pb2.JobSpec(prompt="", steps=0))), InvalidRequest)
    assert isinstance(await bench.refused(Draft(job_pb2.JobSpec(prompt="a", model="nope"))), NotFound)
    assert bench.log == []


@pytest.mark.parametrize("key", ["half a pair \ud800", "k" * 129, "a\0b", "é"])
async def test_a_key_that_cannot_be_kept_is_not_looked_up(bench: Bench, key: str) -> None:
    error = await bench.refused(Draft(DRAFT.spec, key))
    assert ([v.field for v in error.violations], bench.log) == (["request_id"], [])


async def test_no_model_is_a_matter_of_time() -> None:
    empty = Bench()
    empty.admission = Admission(empty.scheduler, empty.limiter, catalog(), uploads(), ManualClock())
    error = await empty.refused()
    assert (error.reason, error.retry_after_s) == ("NO_CAPACITY", 5.0)


async def test_too_many_requests(bench: Bench) -> None:
    bench.limiter.denial = Denial("requests", 60, 0.4, 2.5)
    error = await bench.refused()
    assert isinstance(error, LimitExceeded)
    assert (error.reason, error.retry_after_s) == ("RPM_EXHAUSTED", 2.5)
    told = {"dimension": "requests", "account": "tenant", "limit": "60", "used": "60", "reset_ms": "2500"}
    assert error.metadata == told
    assert "in 3 s" in error.message
    assert bench.log == ["find", "reserve"]


async def test_a_balance_that_does_not_suffice_is_told_with_what_is_free(bench: Bench) -> None:
    bench.limiter.denial = Denial("balance", 0.2, 0.05, 0.0)
    error = await bench.refused()
    assert isinstance(error, PreconditionFailed)
    assert (error.reason, error.retry_after_s) == ("BALANCE_EXHAUSTED", None)
    assert "costs up to 0.20, and 0.05 of your balance are free. Nothing was charged." in error.message


async def test_a_cap_is_told_with_when_it_begins_anew(bench: Bench) -> None:
    bench.limiter.denial = Denial("spend", 100.0, 0.1, 86_400 * 2.5)
    error = await bench.refused()
    assert isinstance(error, LimitExceeded)
    assert (error.reason, error.retry_after_s) == ("SPEND_CAP_REACHED", 216_000)
    assert "Of your cap of 100.00 a month 0.10 are left" in error.message
    assert "in 3 days" in error.message


async def test_too_dear_names_what_fits_now(bench: Bench) -> None:
    bench.limiter.denial, bench.limiter.available_units = Denial("cost", 6000, 2500, 38), 2500
    error = await bench.refused()
    assert isinstance(error, LimitExceeded)
    assert (error.reason, error.metadata["available_units"]) == ("GPU_COST_EXHAUSTED", "2500.0")
    assert error.metadata["fits_now"].startswith(("512x512x", "384x384x"))
    assert error.metadata["fits_now"] in error.message
    assert "38 s" in error.message


async def test_what_never_fits_is_not_worth_waiting_for(bench: Bench) -> None:
    bench.limiter.denial, bench.limiter.available_units = Denial("tier", 3000, 0, 0, about="units"), 0
    error = await bench.refused()
    assert isinstance(error, PreconditionFailed)
    assert (error.reason, error.retry_after_s) == ("REQUEST_EXCEEDS_TIER_BUDGET", None)
    assert error.metadata["max_units"] == "3000.0"
    assert error.metadata["suggestion"]


@given(st.sampled_from([64, 128, 512, 1000]), st.integers(1, 100), st.integers(1, 4), st.floats(0, 1e5))
def test_smaller_requests_are_smaller_valid_and_fit(side: int, steps: int, images: int, available: float) -> None:
    request = SpecRequest(prompt="a", width=side, height=side, steps=steps, images=images)
    spec = resolve(request, MODEL, 0)
    for option in cheaper(spec, MODEL, CostTable({}), Room(available)):
        shape = (option.spec.width, option.spec.height, option.spec.steps, option.spec.images)
        assert shape != (side, side, steps, images)
        assert all(new <= old for new, old in zip(shape, (side, side, steps, images), strict=True))
        again = resolve(SpecRequest("a", width=shape[0], height=shape[1], steps=shape[2], images=shape[3]), MODEL, 0)
        assert CostTable({}).units(again, MODEL.pinned) == option.units <= available


@given(st.integers(0, 20), st.integers(1, 100), st.floats(0, 1e6))
def test_smaller_clips_have_fewer_frames_that_the_model_can_draw(
    steps_of_four: int, steps: int, available: float
) -> None:
    limits, defaults = ModelLimits(max_frames=81, frame_step=4), ModelDefaults(frames=17, fps=8)
    film = Model("film", "1", "P", limits=limits, defaults=defaults, output="video")
    spec = resolve(SpecRequest(prompt="a", frames=1 + 4 * steps_of_four, steps=steps), film, 0)
    for option in cheaper(spec, film, CostTable({}), Room(available)):
        new = option.spec
        again = SpecRequest(
            "a", width=new.width, height=new.height, steps=new.steps, images=new.images, frames=new.frames
        )
        assert (new.frames or 0) <= (spec.frames or 0)
        assert CostTable({}).units(resolve(again, film, 0), film.pinned) == option.units <= available
        assert str(option).endswith(f", {new.frames} frames")


@given(st.integers(1, 50), st.floats(0.02, 1), st.floats(0, 1e5))
def test_smaller_drawings_over_a_picture_still_draw(steps: int, strength: float, available: float) -> None:
    painter = Model("painter", "1", "P", tasks=("text", "image"), defaults=ModelDefaults(strength=0.8))
    steps = max(steps, math.ceil(1 / strength))
    request = SpecRequest("a", input_image="upl_01JD0000000000000000000000", steps=steps, strength=strength)
    for option in cheaper(resolve(request, painter, 0), painter, CostTable({}), Room(available)):
        assert option.spec.drawn_steps >= 1
