"""Look-ups side by side: whose they are, how many, and what becomes of a slow one."""

from __future__ import annotations

import asyncio

import pytest

from libs.ids import TenantId
from libs.testing.clock import ManualClock
from services.gateway.webhooks import look_ups
from services.gateway.webhooks.look_ups import LOOK_UPS, MOST_A_HOST, MOST_A_TENANT, SLOW_S, LookUps, NoPlace

ACME = TenantId("acme")


class Names:
    """A resolver that answers when `release` is set."""

    def __init__(self) -> None:
        self.release = asyncio.Event()
        self.asked: list[str] = []

    async def __call__(self, host: str, _port: int) -> list[str]:
        self.asked.append(host)
        await self.release.wait()
        return ["8.8.8.8"]


async def look_up(names: LookUps, tenant: str, host: str) -> list[str]:
    return list(await names.addresses(TenantId(tenant), host, 443))


@pytest.mark.parametrize(
    ("wanted", "most"),
    [
        ([("acme", f"h{number}.example") for number in range(5)], MOST_A_TENANT),
        ([(f"t{number}", "hook.example") for number in range(5)], MOST_A_HOST),
        ([(f"t{number}", f"h{number}.example") for number in range(12)], LOOK_UPS),
    ],
)
async def test_few_are_underway_and_the_others_have_their_turn(wanted: list[tuple[str, str]], most: int) -> None:
    names, clock = Names(), ManualClock()
    asking = LookUps(names, clock)
    tasks = [asyncio.create_task(look_up(asking, *each)) for each in wanted]
    await clock.settle()
    assert len(names.asked) == most
    names.release.set()
    assert await asyncio.gather(*tasks) == [["8.8.8.8"]] * len(wanted)


async def test_who_gets_no_place_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    names = Names()
    asking = LookUps(names, ManualClock())
    tasks = [asyncio.create_task(look_up(asking, "acme", "slow.example")) for _ in range(MOST_A_TENANT)]
    await asyncio.sleep(0)
    monkeypatch.setattr(look_ups, "PLACE_S", 0.0)
    with pytest.raises(NoPlace):
        await look_up(asking, "acme", "other.example")
    names.release.set()
    await asyncio.gather(*tasks)
    assert await look_up(asking, "acme", "other.example") == ["8.8.8.8"]


async def test_a_slow_name_keeps_its_place_and_is_left_alone_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    names, clock = Names(), ManualClock()
    asking = LookUps(names, clock)
    monkeypatch.setattr(look_ups, "LOOK_UP_S", 0.0)
    for _ in range(2):
        with pytest.raises(TimeoutError):
            await look_up(asking, "acme", "slow.example")
    assert names.asked == ["slow.example"]
    monkeypatch.setattr(look_ups, "LOOK_UP_S", 5.0)
    monkeypatch.setattr(look_ups, "MOST_A_TENANT", 1)
    monkeypatch.setattr(look_ups, "PLACE_S", 0.0)
    with pytest.raises(NoPlace):  # the thread of the first is still underway
        await look_up(asking, "acme", "other.example")
    names.release.set()
    await clock.settle()
    await clock.advance(SLOW_S)
    assert await look_up(asking, "acme", "slow.example") == ["8.8.8.8"]


async def test_a_name_that_nobody_has_is_said_to_whoever_asks() -> None:
    async def nobody(_host: str, _port: int) -> list[str]:
        raise OSError("no such name")

    asking = LookUps(nobody, ManualClock())
    for _ in range(MOST_A_TENANT + 1):
        with pytest.raises(OSError, match="no such name"):
            await asking.addresses(ACME, "hook.example", 443)
