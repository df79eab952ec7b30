"""`darkroom schedulers`: which of them leads."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from libs.cli import output
from libs.cli.target import Target
from libs.roles import SCHEDULER
from libs.rpc import health

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def schedulers(context: typer.Context, as_json: AsJson = False) -> None:
    """List the schedulers and tell which of them leads; the others stand by."""
    output.run(_schedulers(context.obj, as_json))


async def _schedulers(target: Target, as_json: bool) -> None:
    addresses = target.internal("scheduler").split(",")
    connect = target.health(SCHEDULER)
    states = await asyncio.gather(*(_state(address, connect) for address in addresses))
    if as_json:
        output.print_json([{"address": at, "state": state} for at, state in zip(addresses, states, strict=True)])
        return
    output.print_table(("address", "state"), zip(addresses, states, strict=True))


async def _state(address: str, connect: health.Connect) -> str:
    if await health.serves(address, health.LEADER, connect):
        return "leads"
    return "stands by" if await health.serves(address, connect=connect) else "does not answer"
