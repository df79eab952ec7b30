"""`darkroom keys`: create, list, rotate, revoke API keys (operators only)."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from typing import Annotated

import typer

from libs import scopes
from libs.cli import output
from libs.cli.target import Target
from libs.clients.limiter_admin import ApiKey, LimiterAdminClient
from libs.ids import KeyId, TenantId

app = typer.Typer(no_args_is_help=True, help="Make, replace and withdraw API keys.")

_SCOPES = ", ".join(scopes.NAMES)
_HOUR_S, _DAY_S = 3_600.0, 86_400.0

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def create(
    context: typer.Context,
    tenant: Annotated[str, typer.Argument(help="Tenant; made when it does not exist.")],
    tier: Annotated[str, typer.Option(help="Tier of a new tenant.")] = "free",
    name: Annotated[str, typer.Option(help="What the key is for.")] = "",
    allowed: Annotated[str, typer.Option("--scopes", help=f"What it may be used for, with commas: {_SCOPES}.")] = "",
    days: Annotated[float | None, typer.Option(help="Days until it stops to work by itself.")] = None,
    as_json: AsJson = False,
) -> None:
    """Make a key and print it, this once. Without --scopes it may do all but make keys."""
    wanted = tuple(allowed.replace(",", " ").split())
    output.run(_create(context.obj, _New(tenant, tier, name, wanted, days), as_json))


@app.command("list")
def list_keys(
    context: typer.Context,
    tenant: Annotated[str, typer.Option(help="Only keys of this tenant.")] = "",
    as_json: AsJson = False,
) -> None:
    """List keys without their secrets."""
    output.run(_list(context.obj, tenant, as_json))


@app.command()
def rotate(
    context: typer.Context,
    key_id: Annotated[str, typer.Argument(metavar="KEY", help="Key id.")],
    overlap_hours: Annotated[float, typer.Option(help="Hours for which the old key goes on.")] = 24.0,
    as_json: AsJson = False,
) -> None:
    """Make a key in the place of one and print it, this once."""
    output.run(_rotate(context.obj, key_id, overlap_hours, as_json))


@app.command()
def revoke(
    context: typer.Context,
    key_id: Annotated[str, typer.Argument(metavar="KEY", help="Key id.")],
    as_json: AsJson = False,
) -> None:
    """Withdraw a key; calls with it are refused within five seconds."""
    output.run(_revoke(context.obj, key_id, as_json))


@dataclass(frozen=True, slots=True)
class _New:
    tenant: str
    tier: str
    name: str
    scopes: tuple[str, ...]
    days: float | None


async def _create(target: Target, new: _New, as_json: bool) -> None:
    lifetime_s = None if new.days is None else new.days * _DAY_S
    async with target.admin("ratelimiter") as channel:
        admin = LimiterAdminClient(channel)
        made = await admin.create_key(TenantId(new.tenant), new.tier, new.name, new.scopes, lifetime_s)
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
    now_s = time.time()
    rows = (
        (k.id, k.tenant_id, k.tier, k.prefix + "…", k.name, " ".join(k.scopes), used_text(k), state_text(k, now_s))
        for k in found
    )
    output.print_table(("key", "tenant", "tier", "begins", "name", "scopes", "last used", "state"), rows)


def state_text(key: ApiKey, now_s: float) -> str:
    """Return whether a key works, and until when."""
    if key.revoked_s is not None:
        return "revoked"
    by = f", replaced by {key.replaced_by}" if key.replaced_by else ""
    if key.expires_s is None:
        return "works"
    return (f"expired{by}") if key.expires_s <= now_s else f"works until {output.clock_text(key.expires_s)}{by}"


def used_text(key: ApiKey) -> str:
    """Return when a key was last used, to the minute."""
    return "never" if key.last_used_s is None else output.clock_text(key.last_used_s)


async def _rotate(target: Target, key_id: str, overlap_hours: float, as_json: bool) -> None:
    async with target.admin("ratelimiter") as channel:
        made = await LimiterAdminClient(channel).rotate_key(KeyId(key_id), overlap_hours * _HOUR_S)
    if as_json:
        output.print_json(output.as_json(made))
    else:
        old = state_text(made.replaced, time.time())
        sys.stdout.write(f"{made.secret}\n")
        sys.stderr.write(f"{made.key.id}. Not shown again. The old key {made.replaced.id}: {old}.\n")


async def _revoke(target: Target, key_id: str, as_json: bool) -> None:
    async with target.admin("ratelimiter") as channel:
        gone = await LimiterAdminClient(channel).revoke_key(KeyId(key_id))
    if as_json:
        output.print_json(output.as_json(gone))
    else:
        sys.stdout.write(f"{gone.id} is revoked\n")
