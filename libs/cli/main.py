"""`darkroom`: the commands and what they have in common."""

from __future__ import annotations

import asyncio
import importlib.metadata
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from libs import settings
from libs.cli import (
    backup,
    certs,
    cost,
    dead,
    fleet,
    generate,
    invites,
    jobs,
    keys,
    models,
    queue,
    schedulers,
    tenants,
    tiers,
    usage,
    webhooks,
)
from libs.cli.target import ADMIN_ADDRESS, CA, CERTIFICATE, DEFAULT_DATA, MESH_TOKEN, OPERATOR_TOKEN, Target

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Self-hosted image generation: start it, draw with it, look after it.",
)
app.add_typer(jobs.app, name="jobs")
app.add_typer(models.app, name="models")
app.add_typer(keys.app, name="keys")
app.add_typer(invites.app, name="invites")
app.add_typer(certs.app, name="certs")
app.command("backup")(backup.backup)
app.command("restore")(backup.restore)
app.command("generate")(generate.generate)
app.add_typer(dead.app, name="dead")
app.add_typer(webhooks.app, name="webhooks")
app.add_typer(tenants.app, name="tenants")
app.add_typer(tiers.app, name="tiers")
app.command("limits")(tenants.limits)
app.command("usage")(usage.usage)
app.command("cost")(cost.cost)
app.command("queue")(queue.queue)
app.command("schedulers")(schedulers.schedulers)
app.command("workers")(fleet.workers)
app.command("drain")(fleet.drain)
app.command("undrain")(fleet.undrain)
app.command("pin")(fleet.pin)
app.command("unpin")(fleet.unpin)
app.command("pins")(fleet.pins)


# What the other commands read; a stack does not know these names and would refuse them.
_CLIENTS_OWN = {"DARKROOM_URL", "DARKROOM_KEY", ADMIN_ADDRESS, OPERATOR_TOKEN, MESH_TOKEN, CA, CERTIFICATE}


def _version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"darkroom {importlib.metadata.version('darkroom')}\n")
        raise typer.Exit


@app.callback()
def common(
    context: typer.Context,
    data: Annotated[Path, typer.Option(envvar="DARKROOM_DATA", help="Data folder of a stack on this machine.")] = Path(
        DEFAULT_DATA
    ),
    url: Annotated[str, typer.Option(envvar="DARKROOM_URL", help="Server; empty: the stack of the data folder.")] = "",
    key: Annotated[str, typer.Option(envvar="DARKROOM_KEY", help="API key; empty: the stack's own first key.")] = "",
    _version_asked: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Find out which server is meant."""
    context.obj = Target(data=data, url=url, key=key, environ=os.environ)


@app.command()
def up(context: typer.Context) -> None:
    """Start the whole mesh on this machine; Ctrl-C stops it."""
    from libs.devstack import up as devstack
    from libs.devstack.settings import StackSettings

    target: Target = context.obj
    environ = {name: value for name, value in os.environ.items() if name not in _CLIENTS_OWN}
    environ["DARKROOM_DATA"] = str(target.data)
    raise typer.Exit(asyncio.run(devstack.up(settings.load_or_exit(StackSettings, environ))))


def main() -> None:
    """Entry point of the console script."""
    app()
