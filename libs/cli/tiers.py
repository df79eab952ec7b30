"""`darkroom tiers`: show, check and apply what each tier may spend (operators only)."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from libs.cli import output
from libs.cli.target import Target
from libs.cli.tier_prices import too_dear
from libs.clients.limiter_tenants import TenantsClient

app = typer.Typer(no_args_is_help=True, help="Show, check and apply the tiers.")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
FileArgument = Annotated[
    Path, typer.Argument(metavar="FILE", exists=True, dir_okay=False, readable=True, help="A whole tiers.toml.")
]


@app.command()
def show(context: typer.Context, as_json: AsJson = False) -> None:
    """Show the tiers in force, and what is wrong with their file as it lies there."""
    output.run(_show(context.obj, as_json))


@app.command()
def check(context: typer.Context, file: FileArgument, as_json: AsJson = False) -> None:
    """Say what a file would change; changes nothing."""
    output.run(_check(context.obj, file.read_text(), as_json))


@app.command()
def apply(context: typer.Context, file: FileArgument, as_json: AsJson = False) -> None:
    """Write a file where the rate limiter reads it, and have it hold at once."""
    output.run(_apply(context.obj, file.read_text(), as_json))


async def _show(target: Target, as_json: bool) -> None:
    async with target.admin("ratelimiter") as channel:
        told = await TenantsClient(channel).tiers()
    if as_json:
        output.print_json(output.as_json(told))
        return
    names = list(dict.fromkeys(name for limits in told.tiers.values() for name in limits))
    rows = ((name, *(limits.get(name, "-") for limits in told.tiers.values())) for name in names)
    output.print_table(("limit", *told.tiers), rows)
    if told.wrong:
        sys.stderr.write(f"The file is wrong, so older tiers are in force:\n{told.wrong}\n")
    _warn(await too_dear(target, told.tiers))


async def _check(target: Target, text: str, as_json: bool) -> None:
    async with target.admin("ratelimiter") as channel:
        changes = await TenantsClient(channel).check_tiers(text)
    told = ("The file is right. It would change:", "The file is right and would change nothing.")
    _print(list(changes), told, as_json, await too_dear(target, tomllib.loads(text)))


async def _apply(target: Target, text: str, as_json: bool) -> None:
    async with target.admin("ratelimiter") as channel:
        path, changes = await TenantsClient(channel).apply_tiers(text)
    told = (f"Written to {path}. Changed:", f"Written to {path}. Nothing changed.")
    _print(list(changes), told, as_json, await too_dear(target, tomllib.loads(text)))


def _print(changes: list[str], told: tuple[str, str], as_json: bool, dear: Sequence[str] | None) -> None:
    if as_json:
        output.print_json({"changes": changes, "too_dear": dear})
        return
    some, none = told
    lines = [some, *(f"  {change}" for change in changes)] if changes else [none]
    sys.stdout.write("\n".join(lines) + "\n")
    _warn(dear)


def _warn(dear: Sequence[str] | None) -> None:
    if dear is None:
        sys.stderr.write("The scheduler does not answer, so nothing was compared with the prices as measured.\n")
    elif dear:
        told = "At the prices as measured now these are allowed and always refused:"
        sys.stderr.write("\n".join([told, *(f"  {line}" for line in dear)]) + "\n")
