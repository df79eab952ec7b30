"""What commands print: tables and sentences for people, JSON for programs, errors on standard error."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import sys
from collections.abc import Coroutine, Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

import typer
from google.protobuf import json_format
from google.protobuf.message import Message
from rich.console import Console
from rich.table import Table
from rich.text import Text

from libs.cli.target import TargetUnknown
from libs.errors import DarkroomError
from libs.secret_files import SecretMissing

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T")
_PIPED_WIDTH = 240  # columns; a pipe has no width of its own and its reader wants whole lines


def as_json(value: Message | DataclassInstance) -> dict[str, Any]:
    """Return a message as the REST API would print it, or a record field by field."""
    if not isinstance(value, Message):
        return dataclasses.asdict(value)
    document: dict[str, Any] = json_format.MessageToDict(
        value, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    return document


def print_json(value: object) -> None:
    """Print one JSON document."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table that a person can read; cells are text, never markup."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, column in enumerate(columns):
        table.add_column(column, overflow="fold", no_wrap=number == 0)  # the first one is an id, to be copied whole
    for row in rows:
        table.add_row(*(Text(str(cell)) for cell in row))
    Console(width=None if sys.stdout.isatty() else _PIPED_WIDTH).print(table)


def clock_text(seconds: float) -> str:
    """Return Unix seconds as a date and time of UTC, to the second."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a command's coroutine; a failure that a person can act on is one sentence and exit status 1."""
    try:
        return asyncio.run(work)
    except (DarkroomError, TargetUnknown, SecretMissing) as error:
        reason = f" [{error.reason}]" if isinstance(error, DarkroomError) else ""
        sys.stderr.write(f"darkroom: {error}{reason}\n")
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
