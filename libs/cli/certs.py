"""`darkroom certs`: an authority for one's own mesh, and the certificates that it issues."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from libs import certificates
from libs.certificates import AUTHORITY, CLIENTS, Certificate, CertificateProblem, NotRenewed
from libs.cli import output
from libs.cli.target import Target

app = typer.Typer(no_args_is_help=True, help="Make, show and renew the certificates of a mesh and its door.")

T = TypeVar("T")
Folder = Annotated[
    Path | None, typer.Option("--folder", help="Folder of certificates; empty: the one of the data folder.")
]
Hosts = Annotated[
    list[str] | None, typer.Option("--host", help="Name or address that the certificate is for; may be repeated.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def init(context: typer.Context, folder: Folder = None, host: Hosts = None) -> None:
    """Make an authority, a certificate for every service, for Envoy and operators, and one for the door (--host)."""
    place, now = _place(context, folder), _now()
    _told(lambda: certificates.init(place, now, host or ()))
    sys.stdout.write(f"{place} holds a new authority; keep {place / AUTHORITY} where only you can read it\n")


@app.command()
def issue(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help=f"A service, envoy, operator, door, or {CLIENTS}/NAME.")],
    folder: Folder = None,
    host: Hosts = None,
    days: Annotated[int, typer.Option(min=1, help="How long it is valid.")] = certificates.LIFE.days,
) -> None:
    """Issue one certificate; it takes the place of the one before and is used at once."""
    place, now, life = _place(context, folder), _now(), timedelta(days=days)
    made = _told(lambda: certificates.issue(place, name, now, hosts=host or (), life=life))
    sys.stdout.write(f"{place / made.name} is valid until {_text(made.ends)}\n")


@app.command()
def show(context: typer.Context, folder: Folder = None, as_json: AsJson = False) -> None:
    """List the certificates and when they end; status 1 when one has ended."""
    place, now = _place(context, folder), _now()
    found = _told(lambda: certificates.find(place))
    if as_json:
        output.print_json([_document(one, now) for one in found])
    else:
        rows = ((one.name, one.identity, " ".join(one.hosts), _text(one.ends), _state(one, now)) for one in found)
        output.print_table(("certificate", "identity", "hosts", "ends", "state"), rows)
    if not found:
        sys.stderr.write(f"darkroom: there are no certificates in {place}; `darkroom certs init` makes them\n")
    if not found or any(one.ends <= now for one in found):
        raise typer.Exit(1)


@app.command()
def renew(
    context: typer.Context,
    folder: Folder = None,
    within: Annotated[int, typer.Option("--within-days", min=0, help="Renew what ends within so many days.")] = (
        certificates.RENEW_BEFORE.days
    ),
) -> None:
    """Issue anew what ends soon, for the hosts that it had; running processes take it without a restart."""
    place, now = _place(context, folder), _now()
    renewed, problem = _told(lambda: _renewed(place, now, timedelta(days=within)))
    for one in renewed:
        sys.stdout.write(f"{one.name} is valid until {_text(one.ends)}\n")
    if problem:
        sys.stderr.write(f"darkroom: cannot renew {problem}\n")
        raise typer.Exit(1)
    if not renewed:
        sys.stdout.write("nothing ends so soon\n")


def _renewed(place: Path, now: datetime, within: timedelta) -> tuple[Sequence[Certificate], str]:
    """Return what is renewed, and what is told of the others."""
    try:
        return certificates.renew(place, now, within), ""
    except NotRenewed as error:
        return error.renewed, str(error)


def _place(context: typer.Context, folder: Path | None) -> Path:
    target: Target = context.obj
    return folder or target.certificates()


def _told(work: Callable[[], T]) -> T:
    try:
        return work()
    except CertificateProblem as error:
        told = str(error)
    except OSError as error:
        told = f"cannot write {error.filename}: {error.strerror}"
    sys.stderr.write(f"darkroom: {told}\n")
    raise typer.Exit(1)


def _state(one: Certificate, now: datetime) -> str:
    if one.ends <= now:
        return "has ended"
    return "renew it" if one.is_due(now) and one.name != AUTHORITY else "works"


def _document(one: Certificate, now: datetime) -> dict[str, object]:
    times = {"begins": _text(one.begins), "ends": _text(one.ends), "state": _state(one, now)}
    return {"name": one.name, "identity": one.identity, "hosts": list(one.hosts), **times}


def _text(moment: datetime) -> str:
    return output.clock_text(moment.timestamp())


def _now() -> datetime:
    return datetime.now(UTC)
