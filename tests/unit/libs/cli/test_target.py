"""Which server, key and tokens a command uses."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from libs import certificates, secret_files
from libs.cli.target import DEFAULT_URL, Target, TargetUnknown
from libs.rpc import health


def stack_folder(root: Path) -> Path:
    (root / "run").mkdir()
    addresses = {"http": "0.0.0.0:8123", "scheduler": "127.0.0.1:20001", "metrics": {"scheduler": "127.0.0.1:1"}}
    (root / "run" / "addresses.json").write_text(json.dumps(addresses))
    (root / "dev-key").write_text("dk_first\n")
    secret_files.ensure(root / "secrets")
    return root


def test_a_running_stack_is_found_by_its_folder(tmp_path: Path) -> None:
    target = Target(stack_folder(tmp_path), url="", key="", environ={})
    assert target.address() == "http://127.0.0.1:8123"
    assert target.api_key() == "dk_first"


def test_flags_win_over_the_folder(tmp_path: Path) -> None:
    target = Target(stack_folder(tmp_path), url="https://images.example", key="dk_mine", environ={})
    assert (target.address(), target.api_key()) == ("https://images.example", "dk_mine")


def test_the_first_key_of_this_machine_is_never_sent_to_another_server(tmp_path: Path) -> None:
    target = Target(stack_folder(tmp_path), url="images.example:8080", key="", environ={})
    assert (target.address(), target.api_key()) == ("http://images.example:8080", "")


def test_without_a_stack_the_usual_address_is_tried(tmp_path: Path) -> None:
    assert Target(tmp_path, url="", key="", environ={}).address() == DEFAULT_URL


async def test_operators_need_a_stack_or_an_address(tmp_path: Path) -> None:
    with pytest.raises(TargetUnknown, match="DARKROOM_ADMIN_ADDRESS"):
        async with Target(tmp_path, url="", key="", environ={}).admin("scheduler"):
            pass


async def test_operators_reach_a_remote_mesh_by_environment(tmp_path: Path) -> None:
    environ = {
        "DARKROOM_ADMIN_ADDRESS": "127.0.0.1:20002",
        "DARKROOM_OPERATOR_TOKEN": "operator",
        "DARKROOM_MESH_TOKEN": "mesh",
    }
    async with Target(tmp_path, url="", key="", environ=environ).admin("scheduler") as channel:
        assert channel is not None


def test_a_door_with_tls_and_a_mesh_of_certificates_are_found_by_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "secrets" / "tls"
    certificates.init(folder, datetime.now(UTC))
    found = {"scheme": "https", "http": "127.0.0.1:8123", "mtls": str(folder), "scheduler": "127.0.0.1:20001"}
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "addresses.json").write_text(json.dumps(found))
    target = Target(tmp_path, url="", key="", environ={})
    assert target.address() == "https://127.0.0.1:8123"
    assert target.certificates() == folder
    assert target.health("scheduler") is not health.connect
    elsewhere = Target(tmp_path, url="", key="", environ={"DARKROOM_ADMIN_ADDRESS": "10.0.0.1:1"})
    assert elsewhere.health("scheduler") is health.connect


async def test_the_operator_of_a_mesh_of_certificates_needs_no_mesh_token(tmp_path: Path) -> None:
    certificates.init(tmp_path / "own", datetime.now(UTC))
    environ = {
        "DARKROOM_ADMIN_ADDRESS": "127.0.0.1:20002",
        "DARKROOM_OPERATOR_TOKEN": "operator",
        "DARKROOM_MTLS": str(tmp_path / "own"),
    }
    async with Target(tmp_path, url="", key="", environ=environ).admin("scheduler") as channel:
        assert channel is not None


async def test_an_authority_that_cannot_be_read_is_told_by_its_variable(tmp_path: Path) -> None:
    environ = {"DARKROOM_CA": str(tmp_path / "nothing.crt")}
    with pytest.raises(secret_files.SecretMissing, match="DARKROOM_CA"):
        async with Target(tmp_path, url="https://images.example", key="", environ=environ).public():
            pass
