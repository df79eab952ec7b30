"""What is remembered of callers without a key, for how long, and of whom together."""

from __future__ import annotations

import pytest

from libs.ids import TenantId
from libs.testing.clock import ManualClock
from services.ratelimiter.abuse.memory import Memory
from services.ratelimiter.abuse.reputation import Reputation
from services.ratelimiter.abuse.watch import Watch
from services.ratelimiter.strangers import ages
from services.ratelimiter.strangers.addresses import tenant_at

HERE, BROWSER = "203.0.113.7", {"user-agent": "one", "accept-language": "en"}
PROMPT = 0x1234_5678_9ABC_DEF0


class Bench:
    """A watch, and callers of all kinds."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.watch = Watch(Reputation((), self.clock), self.clock)

    def somebody(self, age_days: int = 0) -> TenantId:
        return TenantId("anon:" + ages.new_id(self.clock.now() - age_days * 86_400))

    async def timer(self, *tenants: TenantId, jobs: int = 12, prompt: int | None = PROMPT) -> None:
        """Let callers take turns every ten seconds."""
        for count in range(jobs):
            await self.clock.advance(10)
            self.watch.created(tenants[count % len(tenants)], HERE, prompt, largest=True)

    def score(self, tenant_id: TenantId, address: str = HERE) -> int:
        return self.watch.score(tenant_id, BROWSER, address, address)


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def test_a_timer_is_known_by_itself(bench: Bench):
    machine, neighbour = bench.somebody(age_days=1), bench.somebody(age_days=1)
    await bench.timer(machine)
    assert bench.score(machine) == 65
    assert bench.score(neighbour) == 0
    assert bench.score(tenant_at(HERE)) == 0


async def test_a_new_cookie_for_every_job_is_no_way_around(bench: Bench):
    await bench.timer(*(bench.somebody() for _ in range(12)))
    assert bench.score(bench.somebody()) == 55  # who has made nothing yet is told off for nothing
    assert bench.score(bench.somebody(age_days=1)) < 40  # who was known before does not suffer
    assert bench.score(bench.somebody(), "203.0.113.8") == 0
    await bench.timer(tenant_at(HERE))  # out of cookies
    assert bench.score(tenant_at(HERE)) >= 80


@pytest.mark.parametrize("cookies", [0, 1, 3, 12])
async def test_a_neighbour_with_a_fresh_cookie_answers_for_itself_alone(bench: Bench, cookies: int):
    machines = [bench.somebody() for _ in range(cookies)] or [tenant_at(HERE)]
    neighbour = bench.somebody()
    await bench.timer(*machines, jobs=36)
    assert 0 < bench.score(neighbour) <= 55
    bench.watch.created(neighbour, HERE, PROMPT, largest=True)
    assert bench.score(neighbour) <= 55
    await bench.clock.advance(3600)
    assert bench.score(neighbour) == 0


async def test_a_machine_answers_for_what_its_fresh_cookie_made_and_not_twice(bench: Bench):
    machine = bench.somebody()
    await bench.timer(machine)
    assert bench.score(machine) == 65
    await bench.clock.advance(30)
    assert bench.score(machine) < 60


async def test_a_busy_neighbour_does_not_hide_a_machine(bench: Bench):
    machine, others = bench.somebody(), [bench.somebody() for _ in range(9)]
    for _ in range(12):
        await bench.clock.advance(10)
        for other in others:
            bench.watch.created(other, HERE, None, largest=False)
        bench.watch.created(machine, HERE, PROMPT, largest=True)
    assert bench.score(machine) >= 80


async def test_prompts_that_differ_in_little_are_alike_and_others_are_not(bench: Bench):
    same, other, silent = (bench.somebody(age_days=1) for _ in range(3))
    for count in range(12):
        await bench.clock.advance(10)
        bench.watch.created(same, HERE, PROMPT ^ 0b111 << count, largest=False)
        bench.watch.created(other, HERE, PROMPT ^ 0xFFF << 4 * count, largest=False)
        bench.watch.created(silent, HERE, None, largest=False)
    assert (bench.score(same), bench.score(other), bench.score(silent)) == (50, 30, 30)


async def test_one_browser_at_a_hundred_addresses_is_noticed_for_an_hour(bench: Bench):
    for number in range(120):
        bench.watch.came(BROWSER, f"198.51.100.{number}")
    assert bench.score(bench.somebody()) == 15
    assert bench.watch.score(bench.somebody(), {"user-agent": "another"}, HERE, HERE) == 0
    await bench.clock.advance(3601)
    assert bench.score(bench.somebody()) == 0


async def test_after_two_days_nothing_is_known(bench: Bench):
    machine = bench.somebody(age_days=1)
    await bench.timer(machine)
    await bench.clock.advance(48 * 3600)
    bench.watch.created(bench.somebody(), "203.0.113.9", None, largest=False)
    assert len(bench.watch._trails) == 1


def test_no_address_prompt_or_header_is_kept_as_it_is(bench: Bench):
    tenant = bench.somebody()
    bench.watch.created(tenant, HERE, PROMPT, largest=False)
    bench.watch.came(BROWSER, HERE)
    kept = repr(
        [
            vars(part)
            for part in (bench.watch._trails, bench.watch._together, bench.watch._visitors, bench.watch._places)
        ]
    )
    assert not [text for text in (HERE, tenant, str(PROMPT), "one") if repr(text)[1:-1] in kept.replace("None", "")]


def test_memory_forgets_the_oldest_when_there_is_too_much():
    memory: Memory[list[int]] = Memory(list, life_s=10.0, most=2)
    memory.at(b"a", 1.0).append(1)
    memory.at(b"b", 2.0)
    memory.at(b"a", 3.0)
    memory.at(b"c", 4.0)
    assert (memory.find(b"a", 4.0), memory.find(b"b", 4.0), len(memory)) == ([1], None, 2)
    assert memory.find(b"a", 13.0) is None
    memory.at(b"d", 14.0)
    assert len(memory) == 1
