"""A model server obeys no leader that came before one that it has heard."""

from __future__ import annotations

import pytest

from libs.errors import PreconditionFailed
from libs.ids import JobId
from services.modelserver.events import Done
from tests.unit.services.modelserver.bench import Bench


@pytest.fixture
async def bench():
    made = Bench()
    yield made
    await made.close()


async def test_a_leader_of_the_past_is_refused(bench):
    bench.take(epoch=5)
    with pytest.raises(PreconditionFailed) as caught:
        bench.take("job_2", epoch=4)
    assert caught.value.reason == "EPOCH_STALE"


async def test_a_leader_of_the_past_stops_and_parks_nothing(bench):
    bench.gate.clear()
    attempt = bench.take(epoch=1)
    bench.take(epoch=2)
    with pytest.raises(PreconditionFailed) as caught:
        bench.attempts.cancel(attempt.order.key, 1)
    assert caught.value.reason == "EPOCH_STALE"
    for ask in (bench.attempts.park, bench.attempts.resume):
        with pytest.raises(PreconditionFailed):
            await ask(attempt.order.key, 1)
    bench.gate.set()
    assert isinstance(await bench.outcome(attempt), Done)


async def test_whoever_stops_something_is_heard_as_a_leader(bench):
    assert not bench.attempts.cancel((JobId("job_9"), 1), 3)
    with pytest.raises(PreconditionFailed):
        bench.take(epoch=2)
