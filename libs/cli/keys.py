"""`darkroom keys`: create, list, revoke API keys (operators only)."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from libs.cli import output
from libs.cli.target import Target
from libs.clients.limiter_admin import LimiterAdminClient
from libs.ids import KeyId, TenantId

app = typer.Typer(no_args_is_help=True, help="Make and withdraw API keys.")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def create(
    context: typer.Context,
    tenant: Annotated[str, typer.Argument(help="Tenant; made when it does not exist.")],
    tier: Annotated[str, typer.Option(help="Tier of a new tenant.")] = "free",
    name: Annotated[str, typer.Option(help="What the key is for.")] = "",
    as_json: AsJson = False,
) -> None:
    """Make a key and print it, this once."""
    output.run(_create(context.obj, tenant, tier, name, as_json))


@app.command("list")
def list_keys(
    context: typer.Context,
    tenant: Annotated[str, typer.Option(help="Only keys of this tenant.")] = "",
    as_json: AsJson = False,
) -> None:
    """List keys without their secrets."""
    output.run(_list(context.obj, tenant, as_json))


@app.command()
def revoke(
    context: typer.Context,
    key_id: Annotated[str, typer.Argument(metavar="KEY", help="Key id.")],
    as_json: AsJson = False,
) -> None:
    """Withdraw a key; calls with it are refused within five seconds."""
    output.run(_revoke(context.obj, key_id, as_json))


async def _create(target: Target, tenant: str, tier: str, name: str, as_json: bool) -> None:
    async with target.admin("ratelimiter") as channel:
        made = await LimiterAdminClient(channel).create_key(TenantId(tenant), tier, name)
    if as_json:
        output.print_json(output.as_json(made))
    else:
        sys.stdout.write(f"{made.secret}\n")
        sys.stderr.write(f"{made.key.id} for tenant {made.key.tenant_id}, tier {made.key.tier}. Not shown again.\n")


async def _list(target: Target, tenant: str, as_json: bool) -> None:
    async with target.admin("ratelimiter") as channel:
        found = await LimiterAdminClient(channel).list_keys(TenantId(tenant) if tenant else None)
    if as_json:
        output.print_json([output.as_json(key) for key in found])
        return
    rows = ((k.id, k.tenant_id, k.tier, k.prefix + "…", k.name, "revoked" if k.revoked_s else "works") for k in found)
    output.print_table(("key", "tenant", "tier", "begins", "name", "state"), rows)


async def _revoke(target: Target, key_id: str, as_json: bool) -> None:
    async with target.admin("ratelimiter") as channel:
        gone = await LimiterAdminClient(channel).revoke_key(KeyId(key_id))
    if as_json:
        output.print_json(output.as_json(gone))
    else:
        sys.stdout.write(f"{gone.id} is revoked\n")
