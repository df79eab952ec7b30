"""What may be asked for when an endpoint is made, and who reaches it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from libs import account_events
from libs.errors import InvalidRequest, NotFound, PreconditionFailed
from libs.ids import EndpointId, TenantId
from libs.testing.clock import ManualClock
from services.ratelimiter.webhooks.endpoints import MOST_ENDPOINTS, Endpoint, OwnEndpoints

ACME, OTHER = TenantId("acme"), TenantId("other")
URL = "https://Hook.Example:8443/events"


class FakeEndpoints:
    """Keeps endpoints in a list."""

    def __init__(self) -> None:
        self.kept: list[Endpoint] = []

    async def add(self, endpoint: Endpoint, most: int) -> bool:
        if len(await self.list(endpoint.tenant_id)) >= most:
            return False
        self.kept.append(endpoint)
        return True

    async def list(self, tenant_id: TenantId) -> Sequence[Endpoint]:
        return [each for each in self.kept if each.tenant_id == tenant_id]

    async def remove(self, tenant_id: TenantId, endpoint_id: EndpointId) -> bool:
        left = [each for each in self.kept if (each.tenant_id, each.id) != (tenant_id, endpoint_id)]
        gone, self.kept = len(left) < len(self.kept), left
        return gone


@pytest.fixture
def own() -> OwnEndpoints:
    return OwnEndpoints(FakeEndpoints(), ManualClock(5.0))


async def test_an_endpoint_knows_its_host_and_each_kind_once(own: OwnEndpoints):
    made = await own.create(ACME, URL, ["usage_spike", "usage_threshold", "usage_spike"])
    assert (made.host, made.kinds, made.created_s) == ("hook.example", ("usage_threshold", "usage_spike"), 5.0)
    assert made.id.startswith("wh_")
    assert (made.wants("usage_spike"), made.wants("balance_threshold")) == (True, False)
    of_all = await own.create(ACME, URL, [])
    assert all(of_all.wants(kind) for kind in (*account_events.NAMES, "new"))


@pytest.mark.parametrize(
    ("url", "kinds", "fields"),
    [
        ("", [], ["url"]),
        ("https://a]b/", [], ["url"]),
        (URL, ["completed"], ["events"]),
        ("", ["x"], ["url", "events"]),
    ],
)
async def test_mistakes_are_told_together(own: OwnEndpoints, url: str, kinds: list[str], fields: list[str]):
    with pytest.raises(InvalidRequest) as caught:
        await own.create(ACME, url, kinds)
    assert [problem.field for problem in caught.value.violations] == fields
    assert await own.list(ACME) == []


async def test_of_one_tenant_there_is_a_handful(own: OwnEndpoints):
    for _ in range(MOST_ENDPOINTS):
        await own.create(ACME, URL, [])
    with pytest.raises(PreconditionFailed, match="Delete one first"):
        await own.create(ACME, URL, [])
    assert await own.create(OTHER, URL, [])


async def test_nobody_reaches_anothers(own: OwnEndpoints):
    made = await own.create(ACME, URL, [])
    assert await own.get(ACME, made.id) == made
    with pytest.raises(NotFound):
        await own.get(OTHER, made.id)
    with pytest.raises(NotFound):
        await own.remove(OTHER, made.id)
    await own.remove(ACME, made.id)
    with pytest.raises(NotFound):
        await own.remove(ACME, made.id)
