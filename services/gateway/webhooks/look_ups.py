"""Looking names up: a look-up blocks a thread until the system gives up, and whoever owns a name may make it slow.

So there are few at a time, fewer of one tenant and of one name, and a name that took too long is left alone for a while.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from functools import partial

from libs.clock import Clock
from libs.ids import TenantId
from services.gateway.webhooks.addresses import Resolve

LOOK_UPS = 8  # at a time, each with a thread
MOST_A_TENANT = MOST_A_HOST = 2  # of them
PLACE_S = 5.0  # that a delivery waits for its turn
LOOK_UP_S = 5.0  # that it waits for the answer; the look-up itself may go on
SLOW_S = 30.0  # that a name is left alone that had none by then


class NoPlace(Exception):
    """Others are looking names up: it may be tried at once elsewhere, or later."""


class LookUps:
    """Look-ups of one gateway by `resolve`."""

    def __init__(self, resolve: Resolve, clock: Clock) -> None:
        self._resolve = resolve
        self._clock = clock
        self._tenants: Counter[TenantId] = Counter()
        self._hosts: Counter[str] = Counter()
        self._slow_until_s: dict[str, float] = {}
        self._freed = asyncio.Condition()
        self._notices = set[asyncio.Task[None]]()

    async def addresses(self, tenant: TenantId, host: str, port: int) -> Sequence[str]:
        """Return the addresses of a name. Raises NoPlace, TimeoutError, and OSError when it has none."""
        self._check(host)
        await self._wait_for_place(tenant, host)
        look_up = asyncio.ensure_future(self._resolve(host, port))
        look_up.add_done_callback(partial(self._leave, tenant, host))
        try:
            async with asyncio.timeout(LOOK_UP_S):
                return await asyncio.shield(look_up)  # the thread goes on, and keeps its place
        except TimeoutError:
            self._slow_until_s[host] = self._clock.monotonic() + SLOW_S
            raise

    def _check(self, host: str) -> None:
        now_s = self._clock.monotonic()
        self._slow_until_s = {name: until_s for name, until_s in self._slow_until_s.items() if until_s > now_s}
        if host in self._slow_until_s:
            raise TimeoutError(host)

    async def _wait_for_place(self, tenant: TenantId, host: str) -> None:
        def free() -> bool:
            mine = self._tenants[tenant] < MOST_A_TENANT and self._hosts[host] < MOST_A_HOST
            return mine and self._tenants.total() < LOOK_UPS

        try:
            async with asyncio.timeout(PLACE_S), self._freed:
                await self._freed.wait_for(free)
                self._tenants[tenant] += 1
                self._hosts[host] += 1
        except TimeoutError:
            raise NoPlace from None

    def _leave(self, tenant: TenantId, host: str, look_up: asyncio.Future[Sequence[str]]) -> None:
        if not look_up.cancelled():
            look_up.exception()  # it was told to whoever waited for it, if anybody still did
        self._tenants[tenant] -= 1
        self._hosts[host] -= 1
        self._tenants, self._hosts = +self._tenants, +self._hosts
        notice = asyncio.ensure_future(self._tell())
        self._notices.add(notice)
        notice.add_done_callback(self._notices.discard)

    async def _tell(self) -> None:
        async with self._freed:
            self._freed.notify_all()
