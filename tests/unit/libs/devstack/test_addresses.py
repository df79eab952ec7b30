"""Ports that stay ours, and the folder that is held once."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Collection
from pathlib import Path

import pytest

from libs.devstack import addresses
from libs.devstack.addresses import PortClaims, PortInUse
from libs.devstack.folder import DataFolder, FolderInUse, FolderUnusable


def lowest_first(taken: Collection[int]) -> int:
    """Choose as badly as can be: always the lowest, so that two stacks choose the same.

    From numbers of this process only: claims hold for the whole machine, and tests run side by side.
    """
    first = 1_000_000 + 500 * os.getpid()  # no port at all; nothing here listens
    return min(set(range(first, first + 500)) - set(taken))


def every_port(chosen: addresses.Addresses) -> list[str]:
    return [
        chosen.http,
        *chosen.grpc.values(),
        *chosen.metrics.values(),
        chosen.etcd,
        chosen.etcd_peer,
        chosen.envoy_admin,
        chosen.redis,
    ]


def test_two_stacks_share_no_port(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "free_port", lowest_first)
    with contextlib.closing(PortClaims()) as one, contextlib.closing(PortClaims()) as other:
        first = addresses.choose("127.0.0.1", 0, ("gateway", "scheduler"), one, redis=True)
        second = addresses.choose("127.0.0.1", 0, ("gateway", "scheduler"), other, redis=True)
    ports = every_port(first) + every_port(second)
    assert len(set(ports)) == len(ports) == 18


def test_a_claim_ends_with_its_owner(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "free_port", lowest_first)
    with contextlib.closing(PortClaims()) as claims:
        first = claims.take()
    with contextlib.closing(PortClaims()) as claims:
        assert claims.take() == first


def test_a_port_that_is_taken_is_refused_with_what_to_set() -> None:
    with socket.socket() as holder, contextlib.closing(PortClaims()) as claims:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        with pytest.raises(PortInUse, match="Set DARKROOM_HTTP_PORT"):
            addresses.choose("127.0.0.1", holder.getsockname()[1], (), claims)


def test_the_file_of_addresses(tmp_path: Path) -> None:
    with contextlib.closing(PortClaims()) as claims:
        chosen = addresses.choose("0.0.0.0", 0, ("gateway", "modelserver-0"), claims)
    chosen.write(tmp_path / "addresses.json")
    written = json.loads((tmp_path / "addresses.json").read_text())
    assert set(written) == {"http", "gateway", "modelserver-0", "scheduler", "etcd", "envoy-admin", "metrics"}
    assert set(written["metrics"]) == {"gateway", "modelserver-0"}
    assert written["http"].startswith("0.0.0.0:")


def test_the_folder_is_private_and_held_once(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path / "data")
    with folder.held():
        assert folder.root.stat().st_mode & 0o777 == 0o700
        with pytest.raises(FolderInUse, match=f"process {os.getpid()}"), DataFolder(folder.root).held():
            pass
    with folder.held():
        pass


def test_what_a_killed_stack_left_is_cleared(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path)
    with folder.held():
        pass
    (folder.run / "gateway.pid").write_text("1\n")
    folder.addresses.write_text("{}")
    with folder.held():
        assert not (folder.run / "gateway.pid").exists()
        assert not folder.addresses.exists()


def test_a_stack_that_failed_leaves_no_addresses(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path)

    def fail() -> None:
        with folder.held():
            folder.addresses.write_text("{}")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert not folder.addresses.exists()


def test_a_folder_that_cannot_be_made_is_told_by_its_setting(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FolderUnusable, match=r"DARKROOM_DATA=.*file"), DataFolder(tmp_path / "file").held():
        pass


def test_a_folder_of_others_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "theirs").write_text("")
    tmp_path.chmod(0o755)
    with pytest.raises(FolderUnusable, match="holds other things"), DataFolder(tmp_path).held():
        pass
    assert tmp_path.stat().st_mode & 0o777 == 0o755
