"""A sweep beside a hit, a run that brings the same picture, and an owner who deletes: every order of their steps.

Whoever has a job that succeeded gets its bytes while they are kept; when all is over, nothing is left.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from libs.blobs.memory import MemoryBlobs
from libs.blobs.store import image_key
from libs.testing.clock import ManualClock
from services.scheduler.events.watch_hub import WatchHub
from services.scheduler.instruments import Instruments
from services.scheduler.job import Job, JobState
from services.scheduler.open_jobs import OpenJobs
from services.scheduler.replicas.lead import Lead
from services.scheduler.results.keeping import Keeping, Results
from services.scheduler.results.removal import Removal
from services.scheduler.results.reuse import MARGIN_S, Terms
from services.scheduler.results.store import REMOVAL_MARGIN_S, TOMBSTONE_S, HandOver, PicturesSwept
from services.scheduler.results.sweeper import ResultSweeper
from services.scheduler.results.takeover import swept_away
from services.scheduler.storage.memory_store import MemoryStore
from services.scheduler.storage.store import Deposed, JobStore
from services.scheduler.storage.wishes import Ending, Start
from tests.contract.job_store.interleaving import Act, Gate, next_order, play
from tests.contract.job_store.samples import NOW, TENANT, WORKER, a_job, a_spec, a_success, an_image

LIFE_S = 1e8  # longer than all plays on one store take
SOURCE, RUN, HEIR, HIT = range(4)


ADAPTERS = pytest.mark.parametrize("url", ["memory", "sqlite"], indirect=True)


class Prompt:
    """A store whose answers take no time: how late the caller is let on changes no moment that it tells."""

    def __init__(self, store: JobStore, clock: ManualClock) -> None:
        self._store, self._clock = store, clock

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def removed(self, hashes: Collection[str], epoch: int, _now: float) -> None:
        await self._store.removed(hashes, epoch, self._clock.now())


@dataclass(slots=True)
class Stage:
    """What the plays on one store share: time only goes on."""

    store: JobStore
    clock: ManualClock = field(default_factory=lambda: ManualClock(NOW))
    blobs: MemoryBlobs = field(default_factory=MemoryBlobs)
    lead: Lead = field(default_factory=lambda: Lead(1, serving=True))
    plays: dict[str, list[int]] = field(default_factory=dict)  # the order of each, by its picture

    def sweeper(self, gate: Gate | None = None) -> ResultSweeper:
        store = gate.guard(Prompt(self.store, self.clock), "doom", "removed") if gate else self.store
        blobs = gate.guard(self.blobs, "delete") if gate else self.blobs
        jobs = OpenJobs(WatchHub(self.store, self.clock), Instruments(), self.clock)
        return ResultSweeper(store, jobs, Results(blobs, Keeping(LIFE_S, 9 * LIFE_S)), self.clock, self.lead)

    async def close(self) -> None:
        """Let all times pass and sweep: nothing is left of any play."""
        sweeper = self.sweeper()
        for pause_s in (0.0, LIFE_S + 1, LIFE_S + 1, TOMBSTONE_S + 1):
            await self.clock.advance(pause_s)
            await sweeper.sweep(lists=True)
        left = [key async for key in self.blobs.list_keys("images")]
        assert not left, [self.plays[key.partition("/")[2]] for key in left]
        assert await self.store.unknown(self.plays) == sorted(self.plays)
        assert await self.store.open_jobs() == []


class Race:
    """One picture whose time is just over, and who comes at this moment."""

    def __init__(self, stage: Stage, acts: Sequence[str]) -> None:
        self.stage, self.store, self.blobs = stage, stage.store, stage.blobs
        self.clock, self.lead = stage.clock, stage.lead
        self.began_at, number = self.clock.now(), len(stage.plays)
        self.key = f"{number:064d}"
        self.sha256 = hashlib.sha256(self.key.encode()).hexdigest()
        self.acts: list[Act] = [getattr(self, name) for name in acts]
        self.jobs = [a_job(10 * number + place) for place in range(4)]

    @property
    def epoch(self) -> int:
        return self.lead.epoch

    async def begin(self, *, joined: bool) -> None:
        """Draw the picture, let its time pass, and have a run wait that draws it again."""
        source = await self._accept(SOURCE)
        await self._draw(source, expires_at=self.began_at + MARGIN_S + 1)
        await self.clock.advance(MARGIN_S + 1)
        await self._accept(RUN, spec=a_spec(cache="refresh"))
        if joined:
            assert (await self._accept(HEIR)).cache == "JOINED"

    async def sweep(self, gate: Gate) -> None:
        with contextlib.suppress(Deposed):  # beside an outdated sweep; the next leader's goes on at the end
            await self.stage.sweeper(gate).sweep(lists=False)

    async def outdated_sweep(self, gate: Gate) -> None:
        """That of a leader which is deposed while it deletes."""
        store = gate.guard(Prompt(self.store, self.clock), "doom", "removed")
        outdated = replace(self.lead)
        removal = Removal(store, Deposing(self, gate), self.clock, outdated)
        with contextlib.suppress(Deposed):
            await removal.remove(await store.doom(outdated.epoch, self.clock.now(), 9))

    async def hit(self, gate: Gate) -> None:
        """It was asked for when there was time, and is answered late."""
        await gate.wait()
        await self._accept(HIT, now=self.began_at)

    async def run(self, gate: Gate) -> None:
        store, job = gate.guard(self.store, "end"), self.jobs[RUN]
        await gate.wait()
        started = await self.store.start(Start(job.id, 1, WORKER, self.epoch, self.clock.now()))
        assert started is not None
        await gate.guard(self.blobs, "put").put(image_key(self.sha256), b"png", "image/png")
        if not await self._end(store, started):  # handed over
            heir = await self.store.get(self.jobs[HEIR].id)
            assert heir is not None
            assert await self._end(self.store, heir)

    async def late_run(self, gate: Gate) -> None:
        """One that begins when what was removed just before counts as gone."""
        await self.wait(gate)
        await self.run(gate)

    async def hand_over(self, gate: Gate) -> None:
        await gate.wait()
        order = HandOver(self.jobs[RUN].id, 1, self.jobs[HEIR].id, self.epoch, self.clock.now())
        await self.store.hand_over(order)

    async def delete(self, gate: Gate) -> None:
        store = gate.guard(Prompt(self.store, self.clock), "delete", "removed")
        marked = await store.delete(self.jobs[SOURCE].id, TENANT, self.clock.now())
        await Removal(store, gate.guard(self.blobs, "delete"), self.clock, self.lead).remove(marked)

    async def wait(self, gate: Gate) -> None:
        await gate.wait()
        await self.clock.advance(REMOVAL_MARGIN_S + 1)

    async def check(self) -> None:
        """What is kept can be fetched."""
        if await self.blobs.exists(image_key(self.sha256)):
            return
        for job in self.jobs:
            known = await self.store.get(job.id)
            if known is not None and known.state is JobState.SUCCEEDED:
                assert (known.expires_at or 0.0) <= self.clock.now(), known

    async def finish(self) -> None:
        """Draw what waits."""
        await self.stage.sweeper().sweep(lists=False)
        await self.clock.advance(3 * REMOVAL_MARGIN_S)
        for place in (RUN, HEIR, HIT):
            job = await self.store.get(self.jobs[place].id)
            if job is not None and job.state is JobState.RUNNING:
                assert await self._end(self.store, job)
                job = await self.store.get(job.id)
            if job is not None and job.cache == "JOINED" and job.open:
                job = await self.store.follow(job.id, self.epoch, self.clock.now())
            if job is not None and job.open:
                await self._draw(job, expires_at=self.clock.now() + LIFE_S)
        await self.check()

    async def _accept(self, place: int, now: float | None = None, **changes: Any) -> Job:
        now = self.clock.now() if now is None else now
        job = self.jobs[place].evolve(cache_key=self.key, created_at=now, queued_at=now, **changes)
        return (await self.store.accept_reusing(job, [], Terms(now, now + LIFE_S))).job

    async def _draw(self, job: Job, expires_at: float) -> None:
        started = await self.store.start(Start(job.id, job.attempt + 1, WORKER, self.epoch, self.clock.now()))
        assert started is not None
        await self.blobs.put(image_key(self.sha256), b"png", "image/png")
        assert await self.store.end(self._success(started, expires_at)) is not None

    async def _end(self, store: JobStore, job: Job) -> bool:
        """End an attempt as its closer does; False when it is not this job's any more."""
        ending = self._success(job, self.clock.now() + LIFE_S)
        try:
            return await store.end(ending) is not None
        except Deposed:  # the next leader follows it again
            return await self._end(self.store, job)
        except PicturesSwept:
            return await self.store.requeue(swept_away(ending)) is not None

    def _success(self, job: Job, expires_at: float) -> Ending:
        ending = a_success(job, job.attempt, self.epoch, images=(an_image(0, self.sha256),), outbox=())
        return replace(ending, now=self.clock.now(), expires_at=expires_at)


class Deposing(MemoryBlobs):
    """Another leads by the time something is deleted."""

    def __init__(self, race: Race, gate: Gate) -> None:
        super().__init__()
        self._race, self._gate = race, gate

    async def delete(self, key: str) -> None:
        await self._gate.wait()
        holder = f"scheduler-{self._race.lead.epoch}"
        self._race.lead.epoch = await self._race.store.take_lead(holder, self._race.clock.now())
        await self._race.blobs.delete(key)


async def every_order(store: JobStore, *acts: str) -> int:
    """Play them in every order of their steps; returns how many there were."""
    stage, order, count = Stage(store), list[int](), 0
    while True:
        race = Race(stage, acts)
        stage.plays[race.sha256] = order
        await race.begin(joined="hand_over" in acts)
        try:
            following = next_order(order, await play(race, order))
            await race.finish()
        except AssertionError as error:
            error.add_note(f"in the order {order} of {acts}")
            raise
        count += 1
        if following is None:
            await stage.close()
            return count
        order = following
        if isinstance(store, MemoryStore) and count % 50 == 0:  # it looks through all it has
            await stage.close()
            stage = Stage(await a_memory_store())


TWO = [("sweep", "hit"), ("delete", "hit"), ("sweep", "run"), ("delete", "run"), ("delete", "sweep")]
THREE = [
    ("sweep", "hit", "run"),
    ("sweep", "run", "wait"),
    ("delete", "sweep", "hit"),
    ("delete", "run", "wait"),
    ("outdated_sweep", "hit", "wait"),
]
MORE = [
    ("sweep", "run", "hand_over", "wait"),
    ("delete", "sweep", "late_run"),
    ("outdated_sweep", "sweep", "late_run"),
]


async def a_memory_store() -> JobStore:
    store = MemoryStore()
    await store.take_lead("scheduler-0", 0.0)
    return store


@ADAPTERS
@pytest.mark.parametrize("acts", TWO[:3], ids=" ".join)
async def test_two_at_once(store: JobStore, acts: tuple[str, ...]) -> None:
    assert await every_order(store, *acts) in (4, 20)


@pytest.mark.parametrize("acts", TWO[3:] + THREE, ids=" ".join)
async def test_more_at_once(acts: tuple[str, ...]) -> None:
    assert await every_order(await a_memory_store(), *acts) >= 16


@pytest.mark.slow
@pytest.mark.parametrize("acts", MORE, ids=" ".join)
async def test_many_at_once(acts: tuple[str, ...]) -> None:
    assert await every_order(await a_memory_store(), *acts) > 500


@pytest.mark.slow
@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("acts", TWO[3:] + THREE, ids=" ".join)
async def test_more_at_once_on_a_disk(store: JobStore, acts: tuple[str, ...]) -> None:
    assert await every_order(store, *acts) >= 16
