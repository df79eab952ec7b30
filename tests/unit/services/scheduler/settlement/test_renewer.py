"""Places of open jobs are kept, and what the limiter forgot is told to it again."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest

from libs.clients.limiter import OpenReservation
from libs.ids import JobId
from services.scheduler.settlement import renewer
from services.scheduler.settlement.renewer import EVERY_S
from tests.unit.services.scheduler.fakes import Bench, record


async def test_all_open_jobs_are_named_again_and_again() -> None:
    bench = Bench()
    async with bench.running():
        jobs = [await bench.submit() for _ in range(3)]
        for round_ in (1, 2):
            await bench.clock.advance(EVERY_S)
            assert bench.limiter.renewed[-1] == [job.id for job in jobs]
            assert len([names for names in bench.limiter.renewed if names]) == round_
        await bench.scheduler.desk.cancel(jobs[0].id, jobs[0].tenant_id)
        await bench.clock.advance(EVERY_S)
        assert bench.limiter.renewed[-1] == [job.id for job in jobs[1:]]


async def test_a_round_that_takes_long_does_not_put_off_the_next() -> None:
    bench = Bench()
    async with bench.running():
        await bench.submit()
        renew, began = bench.limiter.renew, list[float]()

        async def slowly(reservations: Sequence[OpenReservation]) -> Sequence[JobId]:
            began.append(bench.clock.monotonic())
            await bench.clock.sleep(took_s)
            return await renew(reservations)

        bench.limiter.renew = slowly  # type: ignore[method-assign]
        took_s = 20.0
        for _ in range(20):
            await bench.clock.advance(5.0)
        took_s = 45.0
        for _ in range(30):
            await bench.clock.advance(5.0)
        steps = [after - before for before, after in itertools.pairwise(began)]
        assert steps[:2] == [EVERY_S, EVERY_S]
        assert EVERY_S < steps[-1] <= 50.0


async def test_what_the_limiter_forgot_is_confirmed_again_as_of_its_beginning() -> None:
    bench = Bench()
    async with bench.running():
        kept, lost = [await bench.submit(address="203.0.113.7") for _ in range(2)]
        bench.limiter.delivered.clear()
        bench.limiter.forgot.add(lost.id)
        await bench.clock.advance(EVERY_S)
        ((kind, payload),) = bench.limiter.delivered
        assert (kind, payload["reservation_id"], payload["address"]) == ("confirm", lost.id, "203.0.113.7")
        assert payload["reserved_s"] == lost.created_at
        assert kept.id in bench.limiter.renewed[-1]


async def test_a_limiter_that_was_away_is_asked_again() -> None:
    bench = Bench()
    async with bench.running():
        job = await bench.submit()
        bench.limiter.away = True
        await bench.clock.advance(EVERY_S)
        before = len(bench.limiter.renewed)
        bench.limiter.away = False
        await bench.clock.advance(EVERY_S)
        assert bench.limiter.renewed[before:][0] == [job.id]


async def test_jobs_that_nothing_limits_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(renewer, "UNLIMITED_A_ROUND", 2)
    bench = Bench()
    async with bench.running():
        limited = await bench.submit(running_images=1)
        others = {(await bench.submit()).id for _ in range(4)}
        named: list[list[JobId]] = []
        for _ in range(3):
            await bench.clock.advance(EVERY_S)
            named.append(bench.limiter.renewed[-1])
        assert [names[0] for names in named] == [limited.id] * 3
        parts = [set(names[1:]) for names in named]
        assert parts[0] | parts[1] == others == parts[1] | parts[2]


async def test_an_ended_job_says_why_it_is_over() -> None:
    bench = Bench()
    async with bench.running():
        withdrawn = await bench.submit()
        await bench.scheduler.desk.cancel(withdrawn.id, withdrawn.tenant_id)
        await bench.workers(record())
        drawn = await bench.submit()
        await bench.now(drawn.id)
        causes = {
            payload["reservation_id"]: payload["cause"] for kind, payload in bench.limiter.delivered if kind == "settle"
        }
        assert causes == {withdrawn.id: "withdrawn", drawn.id: "succeeded"}
