"""`darkroom certs` from the outside."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from libs import certificates, roles
from libs.cli.main import app

RUN = CliRunner()


def run(data: Path, *arguments: str) -> Result:
    return RUN.invoke(app, ["--data", str(data), "certs", *arguments])


@pytest.fixture
def data(tmp_path: Path) -> Path:
    made = run(tmp_path, "init", "--host", "images.example")
    assert (made.exit_code, str(tmp_path / "secrets" / "tls") in made.output) == (0, True)
    return tmp_path


def test_init_makes_all_that_a_mesh_needs_once(data: Path) -> None:
    rows = [" ".join(line.split()) for line in run(data, "show").output.splitlines()]
    assert any(row.startswith("door spiffe://darkroom/client/door images.example") for row in rows)
    assert all(row.endswith("works") for row in rows[1:])
    again = run(data, "init")
    assert (again.exit_code, "authority already" in again.output) == (1, True)


def test_another_folder_can_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(tmp_path, "init", "--folder", str(tmp_path / "own")).exit_code == 0
    monkeypatch.setenv("DARKROOM_MTLS", str(tmp_path / "own"))
    assert len(json.loads(run(tmp_path, "show", "--json").output)) == 8


def test_callers_of_the_door_get_certificates(data: Path) -> None:
    made = run(data, "issue", "clients/acme", "--days", "400")
    assert (made.exit_code, "valid until" in made.output) == (0, True)
    wrong = run(data, "issue", "acme")
    assert (wrong.exit_code, "clients/NAME" in wrong.output) == (1, True)


def test_what_has_ended_is_shown_and_renewed(data: Path) -> None:
    folder, past = data / "secrets" / "tls", datetime.now(UTC) - timedelta(days=10)
    certificates.issue(folder, "gateway", past, life=timedelta(days=5))
    shown = run(data, "show")
    assert (shown.exit_code, shown.output.count("has ended")) == (1, 1)
    assert run(data, "renew").output.startswith("gateway is valid until")
    assert run(data, "show").exit_code == 0
    assert run(data, "renew").output == "nothing ends so soon\n"


def test_what_cannot_be_renewed_is_told_beside_what_is(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, past = data / "secrets" / "tls", datetime.now(UTC) - timedelta(days=10)
    with monkeypatch.context() as before:
        before.setattr(roles, "SERVICES", ())
        certificates.issue(folder, "door", past, hosts=["gateway"], life=timedelta(days=5))
    certificates.issue(folder, "gateway", past, life=timedelta(days=5))
    told = run(data, "renew")
    assert (told.exit_code, told.output.startswith("gateway is valid until")) == (1, True)
    assert "name another host for door" in told.output


def test_without_any_it_says_how_to_make_them(tmp_path: Path) -> None:
    for command in ("show", "issue"):
        told = run(tmp_path, command, *(["gateway"] if command == "issue" else []))
        assert (told.exit_code, "darkroom certs init" in told.output) == (1, True)
