"""`darkroom invites`: codes for free accounts, where sign-up is by invite (operators only)."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from libs.cli import output
from libs.cli.target import Target
from libs.clients.limiter_admin import LimiterAdminClient

app = typer.Typer(no_args_is_help=True, help="Invite people to make free accounts.")

_DAY_S = 86_400.0

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.callback()
def invites() -> None:
    """Keep `create` a command of its own, though it is the only one."""


@app.command()
def create(
    context: typer.Context,
    uses: Annotated[int, typer.Option(min=1, help="How many accounts it makes.")] = 1,
    days: Annotated[float | None, typer.Option(help="Days until it expires.")] = None,
    name: Annotated[str, typer.Option(help="What it is for.")] = "",
    as_json: AsJson = False,
) -> None:
    """Make an invite and print its code, this once."""
    output.run(_create(context.obj, uses, days, name, as_json))


async def _create(target: Target, uses: int, days: float | None, name: str, as_json: bool) -> None:
    async with target.admin("ratelimiter") as channel:
        made = await LimiterAdminClient(channel).create_invite(uses, None if days is None else days * _DAY_S, name)
    if as_json:
        output.print_json(output.as_json(made))
        return
    until = "" if made.expires_s is None else f" until {output.clock_text(made.expires_s)}"
    sys.stdout.write(f"{made.code}\n")
    sys.stderr.write(f"Makes {uses} {'account' if uses == 1 else 'accounts'}{until}. Not shown again.\n")
