"""Money and options of the commands for tenants, tiers and usage."""

from __future__ import annotations

import pytest
import typer
from typer.testing import CliRunner

from libs.cli import money
from libs.cli.main import app

RUN = CliRunner()


@pytest.mark.parametrize(
    ("text", "micros", "told"),
    [("12.5", 12_500_000, "12.50"), ("-3", -3_000_000, "-3.00"), ("0.000001", 1, "0.000001"), ("1e2", 10**8, "100.00")],
)
def test_money_is_whole_millionths(text: str, micros: int, told: str):
    assert money.micros_of(text) == micros
    assert money.text_of(micros) == told


@pytest.mark.parametrize("text", ["", "1,5", "nan", "inf", "0.0000001", "five"])
def test_what_is_no_amount_is_told(text: str):
    with pytest.raises(typer.BadParameter, match="at most six places"):
        money.micros_of(text)


def test_no_cap_is_a_dash():
    assert money.text_of(None) == "-"


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (["tenants", "set", "acme", "--limit", "daily_images"], "FIELD=VALUE"),
        (["tenants", "set", "acme", "--cap", "lots"], "at most six places"),
        (["tenants", "credit", "acme", "lots"], "at most six places"),
        (["tiers", "check", "/no/such/tiers.toml"], "does not exist"),
        (["usage", "--by", "week"], "day, tenant, key, model"),
        (["usage", "--format", "xml"], "table, csv, json"),
    ],
)
def test_wrong_options_are_told(command: list[str], told: str, tmp_path):
    result = RUN.invoke(app, ["--data", str(tmp_path), *command], env={"COLUMNS": "200"})
    assert result.exit_code == 2
    assert told in result.output


@pytest.mark.parametrize("command", [["tenants", "list"], ["tiers", "show"], ["limits", "acme"], ["usage"]])
def test_without_a_stack_its_folder_is_asked_for(command: list[str], tmp_path):
    result = RUN.invoke(app, ["--data", str(tmp_path), *command])
    assert result.exit_code == 1
    assert "Name its folder with --data" in result.output
