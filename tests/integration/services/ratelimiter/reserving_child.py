"""A process that reserves: `address token name count confirmed`. Prints how many were taken, then waits to be ended."""

from __future__ import annotations

import asyncio
import sys

from libs.clients.limiter import LimiterClient, Reservation
from libs.ids import JobId, TenantId
from libs.rpc.channel import open_channel


async def main(address: str, token: str, name: str, count: int, confirmed: int) -> None:
    async with open_channel(address, mesh_token=token) as channel:
        limiter = LimiterClient(channel)
        wanted = [Reservation(JobId(f"{name}_{n}"), TenantId("acme"), "pro", 10.0, images=2) for n in range(count)]
        decisions = await asyncio.gather(*map(limiter.reserve, wanted))
        taken = [one for one, decision in zip(wanted, decisions, strict=True) if decision.denial is None]
        for one in taken[:confirmed]:
            await limiter.confirm(one)
        print(len(taken), flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5])))
