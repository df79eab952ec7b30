"""`darkroom queue`: what waits and runs."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from libs.cli import output
from libs.cli.target import Target
from libs.clients.scheduler_admin import QueueView, SchedulerAdminClient

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def queue(context: typer.Context, as_json: AsJson = False) -> None:
    """Count what waits and runs: by tier, by model with what stands in its way, by tenant."""
    output.run(_queue(context.obj, as_json))


async def _queue(target: Target, as_json: bool) -> None:
    async with target.admin("scheduler") as channel:
        view = await SchedulerAdminClient(channel).get_queue()
    if as_json:
        output.print_json(output.as_json(view))
    else:
        _print(view)


def _print(view: QueueView) -> None:
    tiers = ((t.tier, t.queued, t.running, _age(t.oldest_age_s)) for t in view.tiers)
    output.print_table(("tier", "waiting", "running", "oldest"), tiers)
    if view.models:
        sys.stdout.write("\n")
        models = ((m.model_version, m.queued, m.running, _age(m.oldest_age_s), m.obstacle or "-") for m in view.models)
        output.print_table(("model", "waiting", "running", "oldest", "obstacle"), models)
    if view.tenants:
        sys.stdout.write("\n")
        tenants = ((t.tenant_id, t.queued, t.running, f"{t.queued_units:.0f}") for t in view.tenants)
        output.print_table(("tenant", "waiting", "running", "units waiting"), tenants)


def _age(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds else "-"
