from __future__ import annotations

import logging
from datetime import UTC, datetime
from pathlib import Path

import pytest

from libs import certificates, roles, secret_files
from libs.rpc import mesh
from libs.rpc.identity import Identity, folder_of
from libs.secret_files import SecretMissing


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    certificates.init(tmp_path / "tls", datetime.now(UTC))
    return tmp_path / "tls"


def test_the_setting_names_a_folder(tmp_path: Path) -> None:
    assert folder_of("", tmp_path) is None
    assert folder_of("off", tmp_path) is None
    assert folder_of("on", tmp_path) == tmp_path / "tls"
    assert folder_of("/somewhere", tmp_path) == Path("/somewhere")


def test_a_role_has_a_folder_of_its_own_or_the_whole(folder: Path) -> None:
    whole, own = Identity(folder, roles.GATEWAY), Identity(folder / "gateway", roles.GATEWAY)
    assert whole.papers() == own.papers()
    assert whole.papers().certificate == (folder / "gateway" / "tls.crt").read_bytes()
    assert b"PRIVATE KEY" in whole.papers().key
    assert "PRIVATE KEY" not in repr(whole.papers())


def test_what_is_absent_or_no_certificate_is_told_with_what_to_do(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(SecretMissing, match=r"No such file.*darkroom certs issue gateway"):
        Identity(tmp_path / "nowhere", roles.GATEWAY)
    (folder / "gateway" / "tls.crt").write_text("no certificate")
    with pytest.raises(SecretMissing, match="darkroom certs issue gateway"):
        Identity(folder, roles.GATEWAY)


def test_a_renewal_is_taken(folder: Path) -> None:
    held = Identity(folder, roles.GATEWAY)
    before = held.papers()
    certificates.issue(folder, "gateway", datetime.now(UTC))
    after = held.papers()
    assert after.certificate == (folder / "gateway" / "tls.crt").read_bytes() != before.certificate
    assert after.stamp != before.stamp
    assert held.papers() is after


def test_half_a_renewal_leaves_the_certificate_before_in_force(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    held = Identity(folder, roles.GATEWAY)
    before, own_key = held.papers(), (folder / "gateway" / "tls.key").read_bytes()
    certificates.issue(folder, "gateway", datetime.now(UTC))
    new_key = (folder / "gateway" / "tls.key").read_text()
    secret_files.write_private(folder / "gateway" / "tls.key", own_key.decode())
    with caplog.at_level(logging.WARNING):
        assert held.papers() is before
    assert "cannot be used" in caplog.text
    secret_files.write_private(folder / "gateway" / "tls.key", new_key)
    assert held.papers().certificate == (folder / "gateway" / "tls.crt").read_bytes()


def test_with_certificates_there_is_no_mesh_token(folder: Path) -> None:
    secrets = folder.parent
    assert mesh.join("on", secrets, roles.GATEWAY).token == ""
    with pytest.raises(SecretMissing, match="mesh-token"):
        mesh.join("", secrets, roles.GATEWAY)
    with pytest.raises(SecretMissing, match="operator-token"):
        mesh.join("on", secrets, roles.SCHEDULER, has_operators=True)
