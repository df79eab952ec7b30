"""Tokens and signing keys, one file each, mode 0600, in the secrets folder; never in SQL, never in the log."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path

_LEAST_LENGTH = 16  # characters of a token, bytes of a signing key: anyone could sign with an empty one
MESH_TOKEN, OPERATOR_TOKEN, SIGNING_KEYS = "mesh-token", "operator-token", "signing-keys"
WEBHOOK_SECRET, COOKIE_KEYS, ADDRESS_SECRET = "webhook-secret", "cookie-keys", "address-secret"
REDIS_PASSWORD = "redis-password"


class SecretMissing(Exception):
    """A secret file is absent or broken; the message names it and says what to do."""


@dataclass(frozen=True, slots=True)
class SigningKeys:
    """HMAC keys by id. New signatures use `current`; older ones stay valid while their key is listed."""

    current: str
    keys: dict[str, bytes] = field(repr=False)


def read_token(folder: Path, name: str) -> str:
    """Return the token in `folder/name`; raises SecretMissing when it is not there."""
    try:
        token = (folder / name).read_text().strip()
    except OSError as error:
        raise SecretMissing(f"cannot read {folder / name}: {error.strerror}; `darkroom up` makes it") from error
    except UnicodeDecodeError:
        token = ""  # its error would show the bytes
    if len(token) < _LEAST_LENGTH or not token.isascii():
        raise SecretMissing(f"{folder / name} is no token; remove it and `darkroom up` makes a new one")
    return token


def read_signing_keys(folder: Path, name: str = SIGNING_KEYS) -> SigningKeys:
    """Return the signing keys in `folder/name`; raises SecretMissing when the file is absent or broken."""
    text = read_token(folder, name)
    try:
        document = json.loads(text)
        keys = {kid: bytes.fromhex(value) for kid, value in document["keys"].items()}
        if min(len(key) for key in keys.values()) < _LEAST_LENGTH:
            raise ValueError(f"a key has fewer than {_LEAST_LENGTH} bytes")
        return SigningKeys(current=document["current"], keys={document["current"]: keys[document["current"]], **keys})
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise SecretMissing(f"{folder / name} is not a list of signing keys: {error}") from error


def webhook_secret(deployment_secret: str, tenant: str) -> str:
    """Return what webhooks of a tenant are signed with.

    Each has its own, from the one of the deployment: who knows it can forge nothing that another tenant would take.
    """
    return _made(deployment_secret, f"webhooks of {tenant}")


def endpoint_secret(deployment_secret: str, endpoint: str) -> str:
    """Return what webhooks to an endpoint of an account are signed with.

    It is made from the deployment's and the endpoint's id, so that none is kept that could be read out of a database.
    """
    return _made(deployment_secret, f"webhook endpoint {endpoint}")


def _made(deployment_secret: str, purpose: str) -> str:
    key = hmac.new(deployment_secret.encode(), purpose.encode(), hashlib.sha256).digest()
    return "whsec_" + base64.b64encode(key).decode()


def ensure(folder: Path) -> None:
    """Make the folder (0700) and every secret that is absent (0600)."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    wanted = {
        MESH_TOKEN: secrets.token_urlsafe(32),
        OPERATOR_TOKEN: secrets.token_urlsafe(32),
        SIGNING_KEYS: _new_signing_keys(),
        WEBHOOK_SECRET: secrets.token_urlsafe(32),
        COOKIE_KEYS: _new_signing_keys(),
        ADDRESS_SECRET: secrets.token_urlsafe(32),
        REDIS_PASSWORD: secrets.token_urlsafe(32),
    }
    for name, value in wanted.items():
        path = folder / name
        if not path.exists():
            write_private(path, value)
        path.chmod(0o600)


def _new_signing_keys() -> str:
    return json.dumps({"current": "k1", "keys": {"k1": secrets.token_hex(32)}})


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, whole or not at all."""
    temporary = path.with_name(path.name + ".new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    temporary.replace(path)
