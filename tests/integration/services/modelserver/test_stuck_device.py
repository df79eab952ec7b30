"""A device that hangs: the process tells everybody, says where it hangs, and ends although its thread does not."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

from libs import secret_files
from libs.clients.modelserver import AttemptFailed, ModelServerClient, Order
from libs.generation.attempt import FailureKind
from libs.generation.spec import SpecRequest, resolve
from libs.ids import JobId
from libs.rpc.channel import open_channel
from tests.integration.services.modelserver.stuck_worker import MODEL

ROOT = Path(__file__).parents[4]
PATIENCE_S = 60


async def started(folder: Path) -> asyncio.subprocess.Process:
    environ = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("DARKROOM_", "OTEL_"))},
        "DARKROOM_DATA": str(folder),
        "DARKROOM_ETCD_ENDPOINTS": "127.0.0.1:1",  # nobody is there; the worker does not need it to draw
    }
    module = "tests.integration.services.modelserver.stuck_worker"
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, cwd=ROOT, env=environ, stdout=pipe, stderr=asyncio.subprocess.STDOUT
    )


async def logged(process: asyncio.subprocess.Process, message: str) -> dict[str, object]:
    """Read the log up to a message."""
    async with asyncio.timeout(PATIENCE_S):
        async for line in process.stdout:
            if line.startswith(b"{") and (entry := json.loads(line)).get("message") == message:
                return entry
    raise AssertionError(f"it ended without saying {message!r}")


async def test_a_hanging_device_ends_its_attempts_and_the_process_and_says_where(tmp_path):
    secret_files.ensure(tmp_path / "secrets")
    token = secret_files.read_token(tmp_path / "secrets", secret_files.MESH_TOKEN)
    process = await started(tmp_path)
    try:
        address = str((await logged(process, "listening"))["address"])
        spec = resolve(SpecRequest(prompt="a cat", seed=1), MODEL, fresh_seed=0)
        async with open_channel(address, mesh_token=token) as channel, asyncio.timeout(PATIENCE_S):
            order = Order(JobId("job_1"), 1, 1, MODEL.pinned, spec)
            events = [event async for event in ModelServerClient(channel).execute(order)]
        assert isinstance(events[-1], AttemptFailed)
        assert (events[-1].kind, events[-1].reason) == (FailureKind.TRANSIENT, "WORKER_LOST")
        told = await logged(process, "the device is lost")
        assert "hang_here" in str(told["stack"])
        async with asyncio.timeout(PATIENCE_S):
            await process.stdout.read()
            assert await process.wait() == 1
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
