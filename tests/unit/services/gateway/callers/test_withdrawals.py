"""Calls that are open end with their key or token, soon, and with nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

import pytest

from libs.clients.identity import MOST_ASKED, EndedKey
from libs.errors import Unauthenticated, Unavailable
from libs.ids import KeyId, TenantId
from libs.testing.clock import ManualClock
from services.gateway.callers.identity import Caller
from services.gateway.callers.withdrawals import LOOK_EVERY_S, Standing, Withdrawals

KEY, OTHER, TOKEN = KeyId("key_1"), KeyId("key_2"), KeyId("tok_1")


@dataclass
class FakeKeys:
    """Knows which keys have ended; notes what it is asked."""

    ended: dict[KeyId, str] = field(default_factory=dict)
    asked: list[list[KeyId]] = field(default_factory=list)
    away: bool = False

    async def ended_keys(self, key_ids: Sequence[KeyId]) -> Sequence[EndedKey]:
        self.asked.append(list(key_ids))
        if self.away:
            raise Unavailable("The rate limiter does not answer.")
        return [EndedKey(key_id, self.ended[key_id]) for key_id in key_ids if key_id in self.ended]


class Bench:
    """Calls that stay open until the test is over."""

    def __init__(self, calls: ExitStack) -> None:
        self.clock, self.keys, self.calls = ManualClock(), FakeKeys(), calls
        self.withdrawals = Withdrawals(self.clock)

    def open(self, key_id: KeyId = KEY, ends_s: float | None = None) -> Standing:
        caller = Caller(TenantId("acme"), "pro", key_id, ends_s=ends_s)
        return self.calls.enter_context(self.withdrawals.watched(caller))

    async def look(self) -> None:
        await self.withdrawals.look(self.keys)


@pytest.fixture
def bench() -> Iterator[Bench]:
    with ExitStack() as calls:
        yield Bench(calls)


def reason(standing: Standing) -> str:
    """Return why it stands no more, or nothing."""
    try:
        standing.check()
    except Unauthenticated as error:
        return error.reason
    return ""


async def test_every_call_of_a_withdrawn_key_ends_and_no_other(bench: Bench) -> None:
    calls = [bench.open(), bench.open(), bench.open(OTHER)]
    await bench.look()
    assert [reason(call) for call in calls] == ["", "", ""]
    bench.keys.ended[KEY] = "KEY_REVOKED"
    await bench.look()
    assert [reason(call) for call in calls] == ["KEY_REVOKED", "KEY_REVOKED", ""]
    assert [call.over.done() for call in calls] == [True, True, False]


async def test_all_keys_are_one_question_that_names_each_once(bench: Bench) -> None:
    for key_id in (KEY, OTHER, KEY):
        bench.open(key_id)
    await bench.look()
    assert bench.keys.asked == [[KEY, OTHER]]


async def test_very_many_keys_are_asked_in_parts(bench: Bench) -> None:
    for number in range(MOST_ASKED + 1):
        bench.open(KeyId(f"key_{number:06}"))
    last = bench.open(KeyId("key_zzz"))
    bench.keys.ended[last.key_id] = "KEY_EXPIRED"
    await bench.look()
    assert [len(asked) for asked in bench.keys.asked] == [MOST_ASKED, 2]
    assert reason(last) == "KEY_EXPIRED"


async def test_without_open_calls_of_keys_nobody_is_asked(bench: Bench) -> None:
    bench.open(TOKEN, bench.clock.now() + 60)
    bench.open(KeyId(""))
    with bench.withdrawals.watched(None) as standing:
        await bench.look()
        assert not reason(standing)
    with bench.withdrawals.watched(Caller(TenantId("acme"), "pro", KEY)):
        pass
    await bench.look()
    assert bench.keys.asked == []


@pytest.mark.parametrize(("key_id", "why"), [(KEY, "KEY_EXPIRED"), (TOKEN, "TOKEN_EXPIRED")])
async def test_what_ends_by_itself_ends_by_the_clock(bench: Bench, key_id: KeyId, why: str) -> None:
    call, lasting = bench.open(key_id, bench.clock.now() + 60), bench.open(key_id, bench.clock.now() + 600)
    bench.keys.away = True
    await bench.clock.advance(59.9)
    await bench.look()
    assert not reason(call)
    await bench.clock.advance(0.1)
    await bench.look()
    assert (reason(call), reason(lasting)) == (why, "")


async def test_a_rate_limiter_that_does_not_answer_ends_nothing_and_is_asked_again(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    call = bench.open()
    bench.keys.ended[KEY], bench.keys.away = "KEY_REVOKED", True
    for _ in range(3):
        await bench.look()
    assert not reason(call)
    assert len([line for line in caplog.records if line.levelname == "WARNING"]) == 1
    bench.keys.away = False
    await bench.look()
    assert reason(call) == "KEY_REVOKED"


async def test_it_looks_again_and_again(bench: Bench) -> None:
    call = bench.open()
    looking = asyncio.create_task(bench.withdrawals.run(bench.keys))
    await bench.clock.advance(LOOK_EVERY_S)
    bench.keys.ended[KEY] = "KEY_REVOKED"
    await bench.clock.advance(LOOK_EVERY_S)
    assert call.over.done()
    await bench.clock.advance(3 * LOOK_EVERY_S)
    assert len(bench.keys.asked) == 2, "a key whose calls have all ended is asked about no more"
    looking.cancel()
    await asyncio.wait([looking])
