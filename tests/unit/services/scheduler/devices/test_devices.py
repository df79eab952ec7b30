"""Device time by day: what workers told, over restarts of everybody."""

from __future__ import annotations

from dataclasses import replace

import pytest

from darkroom.scheduler.v1 import admin_service_pb2 as pb
from libs.clients.device_state import DeviceTime
from libs.errors import InvalidRequest, Unavailable
from libs.fleet.record import WorkerRecord
from libs.ids import WorkerId
from libs.testing.clock import ManualClock
from services.scheduler.devices import book as books
from services.scheduler.devices import wire
from services.scheduler.devices.book import DeviceBook, DeviceCosts, Told, WorkerDay, day_of
from services.scheduler.devices.keeper import DeviceKeeper
from services.scheduler.replicas import leadership
from services.scheduler.replicas.lead import Lead
from services.scheduler.storage.memory_store import MemoryStore
from tests.unit.services.scheduler.fakes import Bench, FakeModelServer, record

NOW = 1_700_000_000.0
W0 = WorkerId("modelserver-0")


def told(busy_ms: float, incarnation: str = "a", idle_ms: float = 0.0) -> Told:
    return Told(incarnation, DeviceTime(busy_ms, 10.0, idle_ms))


def test_what_is_new_is_added_and_a_restart_counts_from_its_beginning() -> None:
    book = DeviceBook(day_of(NOW), asked_s=NOW - 60)
    book.take(W0, "gpu", told(100.0), NOW)
    book.take(W0, "gpu", told(250.0), NOW + 60)
    assert book.days[W0] == WorkerDay("gpu", DeviceTime(250.0, 10.0, 0.0))
    book.asked_s = NOW + 60
    book.take(W0, "gpu", told(30.0, "b"), NOW + 120)
    assert book.days[W0].time == DeviceTime(280.0, 20.0, 0.0)


def test_what_was_in_vain_is_added_up_by_day_and_days_from_before_are_read() -> None:
    book = DeviceBook(day_of(NOW), asked_s=NOW - 60)
    for failed_ms in (40.0, 70.0):
        book.take(W0, "gpu", Told("a", DeviceTime(100.0, 0.0, 0.0, failed_ms, 5.0)), NOW)
    assert book.days[W0].time == DeviceTime(100.0, 0.0, 0.0, failed_ms=70.0, stopped_ms=5.0)
    assert book.days[W0].time.all_ms == 100.0
    before = {"days": {W0: ["gpu", 1.0, 2.0, 3.0]}, "told": {W0: ["a", 1.0, 2.0, 3.0]}, "asked_s": NOW}
    assert books.from_document(day_of(NOW), before).days[W0].time == DeviceTime(1.0, 2.0, 3.0)


def test_of_a_stranger_that_is_older_than_the_book_nothing_is_counted_twice() -> None:
    book = DeviceBook(day_of(NOW), asked_s=NOW - 60)
    book.take(W0, "gpu", told(5_000_000.0), NOW)
    assert book.days == {}
    book.take(W0, "gpu", told(5_000_100.0), NOW + 60)
    assert book.days[W0].time == DeviceTime(100.0, 0.0, 0.0)


def test_a_new_day_begins_empty_and_goes_on_from_what_was_told() -> None:
    book = DeviceBook(day_of(NOW), asked_s=NOW)
    book.take(W0, "gpu", told(100.0), NOW)
    book.turn(NOW + 86_400)
    book.take(W0, "gpu", told(150.0), NOW + 86_400)
    assert (book.day, book.days[W0].time) == (day_of(NOW) + 1, DeviceTime(50.0, 0.0, 0.0))


def test_a_book_is_kept_and_read_back() -> None:
    book = DeviceBook(day_of(NOW), asked_s=NOW)
    book.take(W0, "gpu", told(100.0), NOW)
    assert books.from_document(book.day, book.to_document()) == book
    book.keep_only({W0: "another"})
    assert (book.told, list(book.days)) == ({}, [W0])
    with pytest.raises((KeyError, TypeError, ValueError)):
        books.from_document(1, {"days": {}})


class OneWorker:
    """A fleet of one."""

    def __init__(self) -> None:
        self.told = FakeModelServer()

    def workers(self) -> dict[WorkerId, WorkerRecord]:
        return {record().worker_id: record()}

    def server(self, _record: WorkerRecord) -> FakeModelServer:
        return self.told


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
async def keeper(store: MemoryStore):
    """Make keepers on one store, as one leader after the other has them."""
    clock, fleet = ManualClock(), OneWorker()
    lead = Lead(await leadership.take(store, clock), serving=True)
    return lambda: (DeviceKeeper(store, fleet, clock, lead), fleet.told)  # type: ignore[arg-type]


async def test_the_keeper_asks_adds_up_and_goes_on_after_a_restart(keeper) -> None:
    first, server = keeper()
    for busy_ms in (1000.0, 4000.0):
        server.time = DeviceTime(busy_ms, 0.0, 500.0)
        await first.ask()
    second, _ = keeper()
    server.time = DeviceTime(4500.0, 0.0, 900.0)
    await second.ask()
    ((day, workers),) = await second.read(day_of(NOW) - 500, day_of(NOW))
    assert (day, list(workers)) == (day_of(NOW), [record().worker_id])
    assert workers[record().worker_id].time == DeviceTime(4500.0, 0.0, 900.0)


async def test_a_worker_that_does_not_answer_costs_nobody_the_round(keeper) -> None:
    keeping, server = keeper()

    async def silent() -> DeviceTime:
        raise Unavailable("gone")

    server.device_time = silent
    await keeping.ask()
    assert await keeping.read(0, day_of(NOW)) == []


BROKEN = [
    "{",
    "null",
    "[1]",
    '{"days": {}}',
    '{"days": [], "told": {}, "asked_s": 1}',
    '{"days": {"w": []}, "told": {}, "asked_s": 1}',
    '{"days": {"w": ["gpu", 1, 2, 3, 4, 5, 6]}, "told": {}, "asked_s": 1}',
    '{"days": {"w": ["gpu", 1, 2, 3]}, "told": {"modelserver-0": ["a", "x", 0, 0]}, "asked_s": 1}',
    '{"days": {"w": ["gpu", NaN, 2, 3]}, "told": {}, "asked_s": 1}',
    '{"days": {"w": [null, 1, 2, 3]}, "told": {}, "asked_s": 1}',
    '{"days": {}, "told": {}, "asked_s": Infinity}',
]


@pytest.mark.parametrize("body", BROKEN)
async def test_a_day_that_cannot_be_read_lies_aside_and_its_time_is_counted_from_the_day_before(
    keeper, store: MemoryStore, body: str, caplog: pytest.LogCaptureFixture
) -> None:
    today, worker = day_of(NOW), record().worker_id
    before, (keeping, server) = DeviceBook(today - 1, asked_s=NOW - 86_400), keeper()
    before.told[worker] = told(1000.0, record().incarnation)
    before.days[worker] = WorkerDay("gpu", DeviceTime(1000.0))
    epoch = (await store.leader()).epoch
    await store.save_document(f"device_time/{today - 1}", before.to_document(), epoch)
    store._documents[f"device_time/{today}"] = body
    assert [day for day, _ in await keeping.read(today - 5, today)] == [today - 1], "the other days are told"
    assert "a day of device time cannot be read" in caplog.messages
    server.time = DeviceTime(1500.0, 0.0, 0.0)
    await keeping.ask()
    assert store._documents[f"device_time_unreadable/{today}"] == body
    assert "a day of device time cannot be read: it is set aside" in caplog.messages
    assert [(day, days[worker].time.busy_ms) for day, days in await keeping.read(today - 5, today)] == [
        (today - 1, 1000.0),
        (today, 500.0),
    ]


async def test_where_the_day_before_is_lost_too_nothing_is_counted_twice(keeper, store: MemoryStore) -> None:
    keeping, server = keeper()
    for day in (day_of(NOW), day_of(NOW) - 1):
        store._documents[f"device_time/{day}"] = "{"
    for busy_ms in (5_000_000.0, 5_000_700.0):
        server.time = DeviceTime(busy_ms, 0.0, 0.0)
        await keeping.ask()
    ((_, days),) = await keeping.read(0, day_of(NOW))
    assert days[record().worker_id].time == DeviceTime(700.0, 0.0, 0.0)


async def test_a_scheduler_begins_whatever_lies_in_the_place_of_device_time() -> None:
    bench = Bench()
    bench.store._documents[f"device_time/{day_of(bench.clock.now())}"] = "{"
    async with bench.running():
        await bench.workers(record())
        await bench.clock.advance(120.0)
        assert await bench.store.load_document(f"device_time/{day_of(bench.clock.now())}") is not None


def test_days_on_the_wire() -> None:
    today = day_of(NOW)
    assert wire.days_from_pb(pb.GetDeviceTimeRequest(), NOW) == (today - 30, today)
    asked = pb.GetDeviceTimeRequest(from_day="2023-11-01", to_day="2030-01-01")
    assert wire.days_from_pb(asked, NOW) == (today - 13, today)
    with pytest.raises(InvalidRequest, match="from_day must be a day"):
        wire.days_from_pb(pb.GetDeviceTimeRequest(from_day="soon"), NOW)
    day = WorkerDay("gpu", DeviceTime(1.0, 2.0, 3.0, 0.5, 0.25))
    answer = wire.days_to_pb([(today, {W0: day, WorkerId("a"): replace(day)})], DeviceCosts(2.5, 0.7, 0.3))
    assert [(d.day, d.worker_id, d.loading_ms) for d in answer.days] == [
        ("2023-11-14", "a", 2.0),
        ("2023-11-14", W0, 2.0),
    ]
    assert {(d.busy_ms, d.failed_ms, d.stopped_ms) for d in answer.days} == {(1.0, 0.5, 0.25)}
    assert (answer.hour_cost, answer.device_kw, answer.kwh_cost) == (2.5, 0.7, 0.3)
