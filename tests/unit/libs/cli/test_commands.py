"""Commands from the outside: what they print, how they fail."""

from __future__ import annotations

import importlib.metadata
import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from libs import secret_files
from libs.cli import fleet, output
from libs.cli.main import app
from libs.clients.scheduler_admin import WorkerView
from libs.errors import LimitExceeded
from libs.ids import JobId, WorkerId

RUN = CliRunner()


def test_version() -> None:
    result = RUN.invoke(app, ["--version"])
    assert (result.exit_code, result.output) == (0, f"darkroom {importlib.metadata.version('darkroom')}\n")


@pytest.mark.parametrize(
    "command",
    [
        ["generate"],
        ["jobs"],
        ["jobs", "list"],
        ["workers"],
        ["models"],
        ["keys"],
        ["backup"],
        ["restore"],
        ["certs"],
        ["certs", "init"],
        ["certs", "issue"],
        ["certs", "show"],
        ["certs", "renew"],
        ["invites"],
        ["invites", "create"],
        ["keys", "create"],
        ["keys", "rotate"],
        ["up"],
        ["dead"],
        ["dead", "requeue"],
        ["queue"],
        ["drain"],
        ["undrain"],
        ["pin"],
        ["unpin"],
        ["pins"],
        ["webhooks"],
        ["webhooks", "secret"],
        ["tenants"],
        ["tenants", "set"],
        ["tiers"],
        ["limits"],
        ["usage"],
    ],
)
def test_every_command_explains_itself(command: list[str]) -> None:
    assert RUN.invoke(app, [*command, "--help"]).exit_code == 0


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (["generate", "x", "-o", "picture.gif"], "--output"),
        (["generate", "x", "-o", "/no/such/folder/picture.png"], "no folder"),
        (["generate", "x", "--seed", "-1"], "--seed"),
        (["generate", "x", "--frames", "-1"], "--frames"),
        (["generate", "x", "--image", "/no/such/picture.png"], "--image"),
        (["generate", "x", "--lora", "ink:strong"], "--lora"),
        (["jobs", "list", "--state", "SLEEPING"], "--state"),
    ],
)
def test_wrong_values_are_told_by_option(command: list[str], told: str, tmp_path: Path) -> None:
    result = RUN.invoke(app, ["--data", str(tmp_path), *command])
    assert result.exit_code == 2
    assert told in result.output


def test_a_failure_is_one_sentence_with_its_reason(capsys: pytest.CaptureFixture[str]) -> None:
    async def fails() -> None:
        raise LimitExceeded("Wait 3 s.", reason="RPM_EXHAUSTED")

    with pytest.raises(BaseException) as ended:  # noqa: PT011 – typer.Exit is no Exception of ours
        output.run(fails())
    assert getattr(ended.value, "exit_code", None) == 1
    assert capsys.readouterr().err == "darkroom: Wait 3 s. [RPM_EXHAUSTED]\n"


def test_records_print_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    worker = WorkerView(WorkerId("w"), "i", "a:1", "cpu", 1.0, ("m@1",), (), 1, 0, JobId(""), 2.0)
    output.print_json([output.as_json(worker)])
    assert json.loads(capsys.readouterr().out)[0]["models"] == ["m@1"]


def test_a_workers_gpu_is_told_in_one_line() -> None:
    cpu = WorkerView(WorkerId("w"), "i", "a:1", "cpu", 1.0, ("m@1", "n@1"), (), 1, 0, JobId(""), 2.0, {"m@1": "ram"})
    gpu = replace(
        cpu,
        memory_bytes=80 * 2**30,
        utilisation_ratio=0.37,
        memory_used_bytes=12.5 * 2**30,
        temperature_celsius=61.0,
        power_watts=250.0,
    )
    assert (fleet.gpu_text(cpu), fleet.gpu_text(gpu)) == ("-", "37% 12.5/80 GiB 61 °C 250 W")
    hot = replace(gpu, throttle=("hw_thermal_slowdown", "sw_power_cap"))
    assert fleet.gpu_text(hot).endswith("W slowed by hw_thermal_slowdown, sw_power_cap")
    assert fleet.models_text(cpu) == "m@1 (ram) n@1"
    assert fleet.models_text(replace(cpu, pins=("m@1", "n@1"))) == "m@1 (ram, pinned) n@1 (pinned)"


def test_a_worker_tells_what_keeps_it_from_jobs() -> None:
    ready = WorkerView(WorkerId("w"), "i", "a:1", "cpu", 1.0, ("m@1",), (), 1, 0, JobId(""), 2.0)
    assert fleet.state_text(ready) == "ready"
    kept = replace(ready, draining=True, quarantined_until=1_800_000_000.0)
    assert fleet.state_text(kept) == "draining, quarantined until 2027-01-15T08:00:00Z"


def test_cells_are_text_and_never_markup(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_table(("prompt",), [("a \\[bold]b[/bold] [red]c",)])
    assert "a \\[bold]b[/bold] [red]c" in capsys.readouterr().out


def test_the_secret_of_a_tenants_webhooks_is_shown(tmp_path: Path) -> None:
    secret_files.ensure(tmp_path / "secrets")
    made = secret_files.webhook_secret((tmp_path / "secrets" / "webhook-secret").read_text(), "acme")
    asked = ["--data", str(tmp_path), "webhooks", "secret", "acme"]
    assert RUN.invoke(app, asked).output == f"{made}\n"
    assert json.loads(RUN.invoke(app, [*asked, "--json"]).output) == {"tenant": "acme", "secret": made}
    elsewhere = RUN.invoke(app, ["--data", str(tmp_path / "nowhere"), "webhooks", "secret", "acme"])
    assert elsewhere.exit_code == 1


@pytest.mark.parametrize(("keys", "warned"), [([], True), (["key_1"], False)])
def test_a_tenant_that_has_no_key_may_be_misspelled(
    keys: list[str], warned: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def list_keys(_client: object, tenant: str) -> list[str]:
        return keys if tenant == "acme" else []

    monkeypatch.setattr("libs.cli.webhooks.LimiterAdminClient.list_keys", list_keys)
    secret_files.ensure(tmp_path / "secrets")
    result = RUN.invoke(
        app, ["--data", str(tmp_path), "webhooks", "secret", "acme"], env={"DARKROOM_ADMIN_ADDRESS": "127.0.0.1:1"}
    )
    assert result.stdout.startswith("whsec_")
    assert ("'acme'" in result.stderr) == warned
