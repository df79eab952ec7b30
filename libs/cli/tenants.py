"""`darkroom tenants` and `darkroom limits`: who they are, what is agreed with them, what they paid (operators only)."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Annotated

import typer

from libs.cli import money, output
from libs.cli.target import Target
from libs.clients.limiter_tenants import NO_KEY, TenantChange, TenantRecord, TenantsClient
from libs.ids import KeyId, TenantId, new_ulid

app = typer.Typer(no_args_is_help=True, help="Look after tenants: tier, limits, money.")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
TenantArgument = Annotated[str, typer.Argument(metavar="TENANT", help="Tenant id.")]
KeyOption = Annotated[str, typer.Option(metavar="KEY", help="Key id: only for this key of the tenant.")]


@app.command("list")
def list_tenants(context: typer.Context, as_json: AsJson = False) -> None:
    """List all tenants."""
    output.run(_list(context.obj, as_json))


@app.command()
def show(context: typer.Context, tenant: TenantArgument, as_json: AsJson = False) -> None:
    """Show one tenant and all that is agreed with it."""
    output.run(_show(context.obj, TenantId(tenant), as_json))


@app.command("set")
def set_tenant(
    context: typer.Context,
    tenant: TenantArgument,
    tier: Annotated[str, typer.Option(help="Its tier; makes the tenant when there is none.")] = "",
    limit: Annotated[
        list[str] | None, typer.Option(help="FIELD=VALUE of tiers.toml; VALUE may be `none`, or `tier` for the tier's.")
    ] = None,
    key: KeyOption = "",
    cap: Annotated[str, typer.Option(help="Most that it may spend in a month, like 100.00; `none` for no cap.")] = "",
    as_json: AsJson = False,
) -> None:
    """Change a tenant; in force everywhere within five seconds."""
    limits = dict(_field(entry) for entry in limit or [])
    cap_micros = None if not cap else -1 if cap == "none" else money.micros_of(cap)
    change = TenantChange(TenantId(tenant), tier, None, limits, KeyId(key) if key else NO_KEY, cap_micros)
    output.run(_set(context.obj, change, as_json))


@app.command()
def verify(
    context: typer.Context,
    tenant: TenantArgument,
    undo: Annotated[bool, typer.Option("--undo", help="Take it back.")] = False,
    as_json: AsJson = False,
) -> None:
    """Say that a tenant is verified, as some tiers require."""
    output.run(_set(context.obj, TenantChange(TenantId(tenant), verified=not undo), as_json))


@app.command(context_settings={"ignore_unknown_options": True})
def credit(
    context: typer.Context,
    tenant: TenantArgument,
    amount: Annotated[str, typer.Argument(help="What it paid, like 12.50; below 0 takes away.")],
    payment: Annotated[str, typer.Option("--id", help="Names the payment: the same id twice counts once.")] = "",
    note: Annotated[str, typer.Option(help="What it was for.")] = "",
    as_json: AsJson = False,
) -> None:
    """Add a payment to a tenant's balance."""
    output.run(_credit(context.obj, TenantId(tenant), money.micros_of(amount), payment, note, as_json))


@app.command()
def events(
    context: typer.Context,
    tenant: Annotated[str, typer.Argument(metavar="TENANT", help="Tenant id; empty for all.")] = "",
    as_json: AsJson = False,
) -> None:
    """List what a tenant should know of, newest first: used-up quotas, money running out, spikes."""
    output.run(_events(context.obj, TenantId(tenant), as_json))


def limits(context: typer.Context, tenant: TenantArgument, key: KeyOption = "", as_json: AsJson = False) -> None:
    """Show every limit of a tenant, what is left of it and when it is back."""
    output.run(_limits(context.obj, TenantId(tenant), KeyId(key), as_json))


async def _list(target: Target, as_json: bool) -> None:
    async with target.admin("ratelimiter") as channel:
        found = [tenant async for tenant in TenantsClient(channel).list()]
    if as_json:
        output.print_json([output.as_json(tenant) for tenant in found])
        return
    columns = ("tenant", "tier", "verified", "made", "balance", "own limits")
    output.print_table(columns, (_row(tenant) for tenant in found))


async def _show(target: Target, tenant_id: TenantId, as_json: bool) -> None:
    async with target.admin("ratelimiter") as channel:
        _print(await TenantsClient(channel).get(tenant_id), as_json)


async def _set(target: Target, change: TenantChange, as_json: bool) -> None:
    async with target.admin("ratelimiter") as channel:
        _print(await TenantsClient(channel).set(change), as_json)


async def _credit(target: Target, tenant_id: TenantId, micros: int, payment: str, note: str, as_json: bool) -> None:
    async with target.admin("ratelimiter") as channel:
        _print(await TenantsClient(channel).credit(tenant_id, micros, payment or f"pay_{new_ulid()}", note), as_json)


async def _events(target: Target, tenant_id: TenantId, as_json: bool) -> None:
    async with target.admin("ratelimiter") as channel:
        found = await TenantsClient(channel).events(tenant_id or None)
    if as_json:
        output.print_json([output.as_json(event) for event in found])
        return
    rows = ((output.clock_text(event.at_s), event.tenant_id, event.kind, event.message) for event in found)
    output.print_table(("time", "tenant", "event", "message"), rows)


async def _limits(target: Target, tenant_id: TenantId, key_id: KeyId, as_json: bool) -> None:
    async with target.admin("ratelimiter") as channel:
        tier, states = await TenantsClient(channel).limits(tenant_id, key_id)
    if as_json:
        output.print_json({"tier": tier, "limits": [output.as_json(state) for state in states]})
        return
    rows = (
        (
            state.dimension,
            f"{max(0.0, state.limit - state.remaining):.12g}",
            f"{state.limit:.12g}",
            f"{state.remaining:.12g}",
            "-" if state.reset_s is None else f"in {state.reset_s:.0f} s",
        )
        for state in states
    )
    output.print_table(("limit", "used", "of", "left", "all back"), rows)
    sys.stderr.write(f"{tenant_id} is {tier}\n")


def _field(entry: str) -> tuple[str, str]:
    name, equals, value = entry.partition("=")
    if not equals or not name or not value:
        raise typer.BadParameter(f"--limit {entry!r} must be FIELD=VALUE, like daily_images=500")
    return name.strip(), value.strip()


def _row(tenant: TenantRecord) -> tuple[str, ...]:
    own = [*_said(tenant.limits), *(f"{key}: {' '.join(_said(of))}" for key, of in tenant.key_limits.items())]
    made = output.clock_text(tenant.created_s)
    verified = "yes" if tenant.verified else "no"
    return tenant.id, tenant.tier, verified, made, money.text_of(tenant.balance_micros), " ".join(own) or "-"


def _said(limits: Mapping[str, str]) -> list[str]:
    return [f"{name}={value}" for name, value in sorted(limits.items())]


def _print(tenant: TenantRecord, as_json: bool) -> None:
    if as_json:
        output.print_json(output.as_json(tenant))
        return
    output.print_table(("tenant", "tier", "verified", "made", "balance", "own limits"), [_row(tenant)])
    held, spent = money.text_of(tenant.held_micros), money.text_of(tenant.spent_micros)
    cap = money.text_of(tenant.cap_micros)
    sys.stdout.write(f"held for running jobs {held}, spent this month {spent}, most in a month {cap}\n")
