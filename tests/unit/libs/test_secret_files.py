from __future__ import annotations

import json
from pathlib import Path

import pytest

from libs import secret_files


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_secrets_are_made_once_and_private(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    secret_files.ensure(folder)
    first = {path.name: path.read_text() for path in folder.iterdir()}
    (folder / secret_files.MESH_TOKEN).chmod(0o644)
    secret_files.ensure(folder)
    assert {path.name: path.read_text() for path in folder.iterdir()} == first
    assert set(first) == {
        "mesh-token",
        "operator-token",
        "signing-keys",
        "webhook-secret",
        "cookie-keys",
        "address-secret",
        "redis-password",
    }
    assert mode(folder) == 0o700
    assert all(mode(path) == 0o600 for path in folder.iterdir())


def test_what_is_made_can_be_read(tmp_path: Path) -> None:
    secret_files.ensure(tmp_path)
    mesh, operator = (secret_files.read_token(tmp_path, n) for n in ("mesh-token", "operator-token"))
    assert mesh != operator
    keys = secret_files.read_signing_keys(tmp_path)
    assert len(keys.keys[keys.current]) == 32
    cookies = secret_files.read_signing_keys(tmp_path, secret_files.COOKIE_KEYS)
    assert cookies.keys[cookies.current] != keys.keys[keys.current]


def test_older_keys_stay_listed(tmp_path: Path) -> None:
    document = {"current": "k2", "keys": {"k1": "00" * 32, "k2": "11" * 32}}
    (tmp_path / "signing-keys").write_text(json.dumps(document))
    keys = secret_files.read_signing_keys(tmp_path)
    assert (keys.current, set(keys.keys)) == ("k2", {"k1", "k2"})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "short",
        "x" * 40,
        json.dumps({"current": "k9", "keys": {"k1": "00" * 32}}),
        json.dumps({"current": "k1", "keys": {"k1": "not hex at all"}}),
        json.dumps({"current": "k1", "keys": {"k1": "", "k2": "00" * 32}}),
        json.dumps({"current": "k1", "keys": {"k1": "00" * 32, "k2": "00" * 8}}),
        json.dumps({"current": "k1", "keys": {}, "more": "than enough"}),
        json.dumps(["a list", "of things", "and more"]),
    ],
)
def test_broken_keys_are_named_with_what_to_do(tmp_path: Path, text: str) -> None:
    (tmp_path / "signing-keys").write_text(text)
    with pytest.raises(secret_files.SecretMissing, match="signing-keys"):
        secret_files.read_signing_keys(tmp_path)


def test_an_absent_token_says_who_makes_it(tmp_path: Path) -> None:
    with pytest.raises(secret_files.SecretMissing, match="darkroom up"):
        secret_files.read_token(tmp_path, "mesh-token")


def test_bytes_that_are_no_text_are_no_token_and_are_not_shown(tmp_path: Path) -> None:
    (tmp_path / "mesh-token").write_bytes(b"secret-of-the-mesh\xff")
    with pytest.raises(secret_files.SecretMissing, match="mesh-token") as caught:
        secret_files.read_token(tmp_path, "mesh-token")
    assert "secret-of" not in str(caught.value)


def test_keys_are_not_shown(tmp_path: Path) -> None:
    secret_files.ensure(tmp_path)
    keys = secret_files.read_signing_keys(tmp_path)
    assert repr(keys.keys[keys.current]) not in repr(keys)
