"""`darkroom usage`: what was used, by day, tenant, key or model (operators only)."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import AsyncIterator
from typing import Annotated

import typer

from libs.cli import money, output
from libs.cli.target import Target
from libs.clients.limiter_usage import PARTS, UsageClient, UsageFilter, UsageRecord

COLUMNS = {"day": "day", "tenant": "tenant_id", "key": "key_id", "model": "model_version"}
_COUNTS = ("jobs", "succeeded", "failed", "cancelled", "expired", "images")
_AMOUNTS = ("gpu_ms", "succeeded_gpu_ms", "actual_units", "charged_units", "micros")
FORMATS = ("table", "csv", "json")


def usage(
    context: typer.Context,
    tenant: Annotated[str, typer.Option(help="Only of this tenant.")] = "",
    key: Annotated[str, typer.Option(help="Only with this key.")] = "",
    model: Annotated[str, typer.Option(help="Only of this model, id or id@version.")] = "",
    from_day: Annotated[str, typer.Option("--from", help="First day of UTC, like 2026-11-21.")] = "",
    to_day: Annotated[str, typer.Option("--to", help="Last day of UTC.")] = "",
    by: Annotated[str, typer.Option(help=f"Add up by some of {','.join(PARTS)}; empty: all in one.")] = "day",
    form: Annotated[str, typer.Option("--format", help="table, csv, or json: one object a line.")] = "table",
) -> None:
    """Show or export usage: measured device time, units, pictures and how jobs ended."""
    if form not in FORMATS:
        raise typer.BadParameter(f"--format must be one of {', '.join(FORMATS)}")
    wanted = UsageFilter(parts_of(by), tenant, key, model, from_day, to_day)
    output.run(_usage(context.obj, wanted, form))


def parts_of(by: str, least: int = 0) -> tuple[str, ...]:
    """Return what `--by` names, of which there must be so many at least. Raises BadParameter."""
    parts = tuple(part.strip() for part in by.split(",") if part.strip())
    if len(parts) < least or not set(parts) <= set(PARTS):
        raise typer.BadParameter(f"--by must be some of {', '.join(PARTS)} with commas")
    return parts


async def _usage(target: Target, wanted: UsageFilter, form: str) -> None:
    async with target.admin("ratelimiter") as channel:
        lines = UsageClient(channel).read(wanted)
        names = [COLUMNS[part] for part in wanted.by]
        if form == "json":
            await _as_json_lines(lines, [*names, *_COUNTS, *_AMOUNTS])
        elif form == "csv":
            await _as_csv(lines, [*names, *_COUNTS, *_AMOUNTS])
        else:
            _as_table([line async for line in lines], wanted.by, names)


async def _as_json_lines(lines: AsyncIterator[UsageRecord], columns: list[str]) -> None:
    async for line in lines:
        sys.stdout.write(json.dumps({name: getattr(line, name) for name in columns}, ensure_ascii=False) + "\n")


async def _as_csv(lines: AsyncIterator[UsageRecord], columns: list[str]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(columns)
    async for line in lines:
        writer.writerow([_plain(getattr(line, name)) for name in columns])


def _plain(value: object) -> object:
    """Return what a spreadsheet takes as text: a name that begins like a formula is quoted by a tick."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@") else value


def _as_table(lines: list[UsageRecord], parts: tuple[str, ...], names: list[str]) -> None:
    columns = (*parts, *_COUNTS, "device s", "units measured", "units charged", "money")
    rows = (
        (
            *(getattr(line, name) or "-" for name in names),
            *(getattr(line, name) for name in _COUNTS),
            f"{line.gpu_ms / 1000:.1f}",
            f"{line.actual_units:.0f}",
            f"{line.charged_units:.0f}",
            money.text_of(line.micros),
        )
        for line in lines
    )
    output.print_table(columns, rows)
