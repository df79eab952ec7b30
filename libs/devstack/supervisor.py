"""Starts groups of processes in order of readiness, keeps each running, stops them in reverse.

A group is started when every process of the groups before it is ready. A process that ends is started again, alone,
with backoff. `run` ends when it is cancelled or a process is beyond hope; either way nothing is left running.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

from libs.devstack.child import Child
from libs.devstack.process import Process

Group = Sequence[Process]


class Supervisor:
    """Owns the child processes of one run folder. Use it on the main thread (see `launcher.command`)."""

    def __init__(self, run_folder: Path, say: Callable[[str], None]) -> None:
        self._run_folder, self._say = run_folder, say
        self._started: list[list[Child]] = []
        self._keepers: dict[Child, asyncio.Task[None]] = {}

    async def start(self, group: Group) -> None:
        """Start a group and wait until all of it is ready; raises ProcessFailed when that will not come."""
        children = [Child(process, self._run_folder, self._say) for process in group]
        self._started.append(children)
        for child in children:
            self._keepers[child] = asyncio.create_task(child.keep(), name=f"keep {child.process.name}")
        ready = asyncio.create_task(_all_ready(children))
        try:
            await asyncio.wait({ready, *self._keepers.values()}, return_when=asyncio.FIRST_COMPLETED)
            self._raise_failure()
        finally:
            ready.cancel()

    async def watch(self) -> None:
        """Wait for ever; raises ProcessFailed when a process is beyond hope."""
        await asyncio.wait(self._keepers.values(), return_when=asyncio.FIRST_COMPLETED)
        self._raise_failure()

    async def stop(self) -> None:
        """Stop every group in reverse order; no process of ours is left after it."""
        while self._started:
            group = self._started[-1]
            await asyncio.gather(*(self._end(child) for child in group))
            self._started.pop()

    def kill(self) -> None:
        """End everything at once, for a caller that will not wait for `stop` in progress."""
        for group in self._started:
            for child in group:
                child.kill()

    async def _end(self, child: Child) -> None:
        keeper = self._keepers.pop(child, None)
        if keeper is not None:
            keeper.cancel()
            await asyncio.gather(keeper, return_exceptions=True)
        await child.stop()

    def _raise_failure(self) -> None:
        for keeper in self._keepers.values():
            if keeper.done():
                keeper.result()


async def _all_ready(children: Sequence[Child]) -> None:
    for child in children:
        await child.ready.wait()
