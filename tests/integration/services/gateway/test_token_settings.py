"""Settings of tokens: what is refused, and that Envoy takes what is rendered of the others."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from libs.devstack.binaries import find_envoy
from services.gateway.envoy import tokens


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (("https://i", "", ""), "there is no audience and no JWKS"),
        (("", "a", "https://i/keys"), "there is no issuer"),
        (("https://i", "a", "/no/such/file"), "there is no file"),
        (("https://i", "a", "http://i/keys"), "must come by https"),
        (("https://i", "a", "https:///keys"), "names no host"),
    ],
)
def test_half_a_setting_is_told(given: tuple[str, str, str], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        tokens.parse(*given)


def test_without_settings_no_tokens_are_taken() -> None:
    assert tokens.parse("", "", "") is None


@pytest.mark.parametrize("jwks", ["https://login.example/keys", "http://127.0.0.1:9/keys", "file"])
async def test_envoy_takes_the_configuration(jwks: str, tmp_path: Path) -> None:
    (tmp_path / "jwks.json").write_text('{"keys": []}')
    place = str(tmp_path / "jwks.json") if jwks == "file" else jwks
    flags = ("--jwt-issuer", "https://login.example", "--jwt-audience", "darkroom", "--jwt-jwks", place)
    upstreams = ("--gateway", "127.0.0.1:1", "--ratelimiter", "127.0.0.1:2")
    with (tmp_path / "envoy.yaml").open("wb") as file:
        command = (sys.executable, "-m", "services.gateway.envoy", *upstreams, *flags)
        assert await (await asyncio.create_subprocess_exec(*command, stdout=file)).wait() == 0
    checking = await asyncio.create_subprocess_exec(
        *(find_envoy(), "--mode", "validate", "-c", str(tmp_path / "envoy.yaml"), "--log-level", "error"),
        env={"DARKROOM_MESH_TOKEN": "unused"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await checking.communicate()
    assert checking.returncode == 0, said.decode()
