"""A process that is killed while it accepts: every job it acknowledged is there."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from services.scheduler.storage.sql_store import open_store
from tests.integration.services.scheduler import accepting_child

ROOT = Path(__file__).parents[4]
ENOUGH = 40  # acknowledged jobs before the kill


async def test_what_a_killed_process_acknowledged_is_there(sqlite_url: str) -> None:
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", accepting_child.__name__, sqlite_url, stdout=asyncio.subprocess.PIPE, cwd=ROOT
    )
    assert child.stdout is not None
    try:
        async with asyncio.timeout(60):
            acknowledged = [await child.stdout.readline() for _ in range(ENOUGH)]
    finally:
        child.kill()
        rest = await child.stdout.read()
        await child.wait()
    whole = [line for line in (b"".join(acknowledged) + rest).splitlines(keepends=True) if line.endswith(b"\n")]
    ids = {line.decode().strip() for line in whole}
    assert len(ids) >= ENOUGH

    store = open_store(sqlite_url)
    kept = await store.open_jobs()
    assert ids <= {job.id for job in kept}
    for job in kept:  # and every one that is there is whole
        assert [event.kind for event in await store.events(job.id, 0)] == ["queued"]
    await store.close()
