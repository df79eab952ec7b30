"""A key that is used from new places a lot is told of; one that travels or is busy at home is not."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from libs.errors import Unavailable
from libs.ids import KeyId, TenantId, new_key_id
from libs.testing.clock import ManualClock
from services.ratelimiter import schema
from services.ratelimiter.abuse.key_watch import KeyWatch, WatchedKeys
from services.ratelimiter.door.callers import Caller, Question
from services.ratelimiter.tenants.events import TenantEvent

ACME, KEY = TenantId("acme"), KeyId("key_1")
MOST_IN_TIME = 50
HOME, AWAY = "203.0.113.7", "198.51.100.7"


class FakeEvents:
    """Keeps each id once, unless it is away or has no time for so many; counts what it was asked to keep."""

    def __init__(self) -> None:
        self.kept: dict[str, TenantEvent] = {}
        self.asked: list[int] = []
        self.away = False
        self.away_after = 99  # calls

    async def add(self, events: Sequence[TenantEvent]) -> int:
        self.asked.append(len(events))
        if self.away or len(events) > MOST_IN_TIME or len(self.asked) > self.away_after:
            raise Unavailable("away")
        new = [event for event in events if event.id not in self.kept]
        self.kept.update({event.id: event for event in new})
        return len(new)


class Bench:
    """A watch over keys."""

    def __init__(self) -> None:
        self.clock, self.events = ManualClock(), FakeEvents()
        self.watch = KeyWatch(self.events, self.clock)  # type: ignore[arg-type]

    async def use(self, address: str, times: int, every_s: float = 1.0) -> None:
        for _ in range(times):
            await self.clock.advance(every_s)
            self.watch.used(ACME, KEY, address)

    async def spikes(self, keys: int) -> None:
        """Have so many keys used from a new network, each far too often."""
        names = [KeyId(f"key_{number}") for number in range(keys)]
        for key in names:
            self.watch.used(ACME, key, HOME)
        await self.clock.advance(3600)
        for key in names * 21:
            self.watch.used(ACME, key, AWAY)

    async def told(self) -> list[TenantEvent]:
        await self.watch.write()
        return list(self.events.kept.values())


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def test_a_spike_from_a_new_network_is_told_once_a_day(bench: Bench):
    await bench.use(HOME, 5)
    await bench.clock.advance(3600)
    await bench.use(AWAY, 20)
    assert await bench.told() == []
    await bench.use(AWAY, 100)
    await bench.told()
    await bench.use(AWAY, 100)
    [event] = await bench.told()
    assert (event.tenant_id, event.kind) == (ACME, "key_in_new_network")
    assert "198.51.100.0/24" in event.message
    assert f"POST /v1/keys/{KEY}:revoke" in event.message


async def test_travelling_is_no_spike_and_a_spike_at_home_is_no_travel(bench: Bench):
    await bench.use(HOME, 5)
    await bench.clock.advance(3600)
    await bench.use(AWAY, 15)
    await bench.use(HOME, 500)
    await bench.use("203.0.113.99", 500)  # the same network
    assert await bench.told() == []


async def test_a_key_that_is_busy_may_be_as_busy_elsewhere(bench: Bench):
    await bench.use(HOME, 100)
    await bench.clock.advance(3600)
    await bench.use(AWAY, 300)
    assert await bench.told() == []
    await bench.use(AWAY, 1)
    assert len(await bench.told()) == 1


async def test_in_its_first_hour_a_key_may_come_from_anywhere(bench: Bench):
    for number in range(10):
        await bench.use(f"198.51.{number}.1", 50)
    assert await bench.told() == []


async def test_what_could_not_be_written_is_written_later(bench: Bench):
    await bench.use(HOME, 1)
    await bench.clock.advance(3600)
    await bench.use(AWAY, 30)
    bench.events.away = True
    with pytest.raises(Unavailable):
        await bench.watch.write()
    bench.events.away = False
    assert len(await bench.told()) == 1


async def test_however_many_wait_they_are_written_a_few_at_a_time(bench: Bench):
    await bench.spikes(120)
    assert len(await bench.told()) == 120
    assert bench.events.asked == [50, 50, 20]


async def test_what_is_written_stays_written_when_the_rest_must_wait(bench: Bench):
    await bench.spikes(120)
    bench.events.away_after = 1
    with pytest.raises(Unavailable):
        await bench.watch.write()
    assert len(bench.events.kept) == 50
    bench.events.asked, bench.events.away_after = [], 99
    assert len(await bench.told()) == 120
    assert bench.events.asked == [50, 20]


class OneKey:
    """Recognises everybody as the tenant with the key."""

    async def recognise(self, _question: Question) -> Caller | None:
        return Caller(ACME, "pro", KEY)


@pytest.mark.parametrize(
    ("method", "path", "counts"),
    [
        ("POST", "/v1/jobs", True),
        ("POST", "/v1/uploads?x=1", True),
        ("POST", "/darkroom.v1.GenerationService/CreateJob", True),
        ("POST", "/darkroom.v1.GenerationService/GetJob", False),
        ("GET", "/v1/jobs", False),
        ("POST", "/v1/jobs/job_1:cancel", False),
    ],
)
async def test_reading_counts_for_nothing(bench: Bench, method: str, path: str, counts: bool):
    keys = WatchedKeys(OneKey(), bench.watch)
    for address, times in ((HOME, 1), (AWAY, 30)):
        for _ in range(times):
            assert await keys.recognise(Question(address, {}, method, path))
        await bench.clock.advance(3600)
    assert bool(await bench.told()) is counts


async def test_an_event_fits_its_column_whatever_key_and_network_it_is_about():
    clock, events, key = ManualClock(), FakeEvents(), new_key_id()
    watch = KeyWatch(events, clock)  # type: ignore[arg-type]
    watch.used(ACME, key, HOME)
    await clock.advance(3600)
    for _ in range(21):
        watch.used(ACME, key, "2001:db8:abcd:ef01::7")
    await watch.write()
    [event] = events.kept.values()
    assert "2001:db8:abcd::/48" in event.message
    assert len(event.id) <= schema.build().tables["tenant_events"].c.id.type.length
