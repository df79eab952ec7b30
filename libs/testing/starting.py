"""Starts servers of a test's own, and says what their logs say when they do not come up."""

from __future__ import annotations

import asyncio
import signal

from libs.devstack.process import Process, how_it_ended, log_tail, signal_group, spawn
from libs.testing import waiting


async def started(process: Process, within_s: float) -> asyncio.subprocess.Process:
    """Start a process and wait until it is ready; on a failure nothing of it is left.

    Raises RuntimeError with the end of its log when it ends instead, or takes longer than `within_s`.
    """
    running = await spawn(process)

    async def is_up() -> bool:
        if running.returncode is not None:
            raise _not_started(process, how_it_ended(running.returncode))
        return await process.is_ready()

    try:
        await waiting.until(is_up, within_s)
    except BaseException as error:
        signal_group(running.pid, signal.SIGKILL)
        await running.wait()
        if isinstance(error, TimeoutError):
            raise _not_started(process, f"is not ready after {within_s:g} s") from None
        raise
    return running


def _not_started(process: Process, how: str) -> RuntimeError:
    return RuntimeError(f"{process.name} did not start, it {how}:\n{log_tail(process.log_path, 0)}")
