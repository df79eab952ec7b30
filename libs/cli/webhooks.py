"""`darkroom webhooks`: what receivers of webhooks need (operators only)."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from libs import secret_files
from libs.cli import output
from libs.cli.target import Target, TargetUnknown
from libs.clients.limiter_admin import LimiterAdminClient
from libs.errors import DarkroomError
from libs.ids import TenantId
from libs.secret_files import SecretMissing

app = typer.Typer(no_args_is_help=True, help="Look after webhooks.")


@app.callback()
def about() -> None:
    """Keep `secret` a command of its own, whatever comes beside it."""


@app.command()
def secret(
    context: typer.Context,
    tenant: Annotated[str, typer.Argument(help="Tenant, as in `darkroom keys list`.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print what webhooks of a tenant's jobs are signed with; its receivers check them with that."""
    output.run(_secret(context.obj, tenant, as_json))


async def _secret(target: Target, tenant: str, as_json: bool) -> None:
    made = secret_files.webhook_secret(target.secret(secret_files.WEBHOOK_SECRET), tenant)
    if as_json:
        output.print_json({"tenant": tenant, "secret": made})
    else:
        sys.stdout.write(f"{made}\n")
    if not await _may_exist(target, tenant):
        sys.stderr.write(f"No key of a tenant {tenant!r} is known: is it spelled as in `darkroom keys list`?\n")


async def _may_exist(target: Target, tenant: str) -> bool:
    """Whether a tenant has keys, or nobody is there to be asked: the secret is made without a running stack, too."""
    try:
        async with target.admin("ratelimiter") as channel:
            return bool(await LimiterAdminClient(channel).list_keys(TenantId(tenant)))
    except (TargetUnknown, SecretMissing, DarkroomError):
        return True
