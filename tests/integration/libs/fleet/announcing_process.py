"""A process that announces one worker until it is killed: python announcing_process.py ENDPOINT LEASE_TTL_S."""

from __future__ import annotations

import asyncio
import sys

from libs.clock import SystemClock
from libs.coordination.client import EtcdClient
from libs.coordination.etcd_registry import EtcdRegistry
from libs.fleet.announce import Announcer
from libs.fleet.record import WorkerRecord
from libs.ids import WorkerId


async def main(endpoint: str, lease_ttl_s: int) -> None:
    clock = SystemClock()
    record = WorkerRecord(WorkerId("w"), "i", "127.0.0.1:20001", "cpu", 0, (), (), 1, 0, clock.now())
    async with EtcdClient([endpoint]) as client:
        await Announcer(EtcdRegistry(client, clock), record, lease_ttl_s=lease_ttl_s, clock=clock).run()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
