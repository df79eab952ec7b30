"""Certificates of a stack: what it makes, what it leaves alone, what it tells."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from libs import certificates, secret_files
from libs.certificates import CertificateProblem
from libs.devstack.settings import StackSettings
from libs.devstack.trust import Trust, keep_renewed
from libs.secret_files import SecretMissing
from libs.settings import load
from libs.testing import waiting
from libs.testing.clock import ManualClock

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


def trust(secrets: Path, **settings: str) -> Trust:
    secret_files.ensure(secrets)
    return Trust(load(StackSettings, {f"DARKROOM_{name}": value for name, value in settings.items()}), secrets)


def test_by_default_nothing_is_made_and_tokens_are_used(tmp_path: Path) -> None:
    plain = trust(tmp_path)
    plain.prepare(NOW)
    assert not (tmp_path / "tls").exists()
    assert (plain.mesh, plain.own, plain.envoy_flags(tmp_path), plain.told()) == (None, None, (), {"scheme": "http"})
    assert plain.operator().token == secret_files.read_token(tmp_path, secret_files.MESH_TOKEN)


def test_a_stack_of_its_own_makes_all_it_needs(tmp_path: Path) -> None:
    own = trust(tmp_path, MTLS="on", DOOR_TLS="mtls")
    own.prepare(NOW)
    folder = tmp_path / "tls"
    assert own.operator().identity is not None
    flags = own.envoy_flags(tmp_path)
    assert flags == (
        *("--mesh-certificates", str(folder / "envoy")),
        *("--door-certificate", str(folder / "door" / "tls.crt"), "--door-key", str(folder / "door" / "tls.key")),
        *("--door-clients", str(folder / "door" / "ca.crt"), "--secrets", str(tmp_path)),
    )
    assert own.told() == {
        "scheme": "https",
        "mtls": str(folder),
        "door-ca": str(folder / "door" / "ca.crt"),
        "door-client": str(folder / "operator"),
    }
    for named in (*flags[1::2], *list(own.told().values())[1:]):
        assert Path(named).exists()


def test_what_is_named_is_used_and_never_written(tmp_path: Path) -> None:
    certificates.init(tmp_path / "public", NOW)
    door = tmp_path / "public" / "door"
    given = {"DOOR_CERT": f"{door}/tls.crt", "DOOR_KEY": f"{door}/tls.key", "DOOR_CA": f"{door}/ca.crt"}
    named = trust(tmp_path, MTLS=str(tmp_path / "theirs"), DOOR_TLS="mtls", **given)
    named.prepare(NOW)
    assert (named.own, (tmp_path / "tls").exists(), (tmp_path / "theirs").exists()) == (None, False, False)
    with pytest.raises(SecretMissing, match="darkroom certs issue envoy"):
        named.envoy_flags(tmp_path)
    certificates.init(tmp_path / "theirs", NOW)
    assert named.envoy_flags(tmp_path)[2:] == (
        *("--door-certificate", f"{door}/tls.crt", "--door-key", f"{door}/tls.key"),
        *("--door-clients", f"{door}/ca.crt", "--secrets", str(tmp_path)),
    )
    assert named.told() == {"scheme": "https", "mtls": str(tmp_path / "theirs")}


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"DOOR_TLS": "tls", "DOOR_CERT": "door/tls.crt"}, "belong together"),
        ({"DOOR_TLS": "tls", "DOOR_KEY": "door/tls.key"}, "belong together"),
        ({"DOOR_CERT": "door/tls.crt", "DOOR_KEY": "door/tls.key"}, "DARKROOM_DOOR_TLS is off"),
        ({"DOOR_TLS": "tls", "DOOR_CA": "door/ca.crt"}, "DARKROOM_DOOR_TLS=mtls"),
        ({"DOOR_TLS": "tls", "DOOR_CERT": "nothing", "DOOR_KEY": "door/tls.key"}, "No such file"),
        ({"DOOR_TLS": "tls", "DOOR_CERT": "door/tls.crt", "DOOR_KEY": "envoy/tls.key"}, "cannot use"),
        ({"DOOR_TLS": "mtls", "DOOR_CA": "door/tls.key"}, "cannot use"),
    ],
)
def test_a_door_that_could_not_be_opened_is_told_at_the_start(
    tmp_path: Path, settings: dict[str, str], told: str
) -> None:
    certificates.init(tmp_path / "own", NOW)
    given = {name: value if name == "DOOR_TLS" else str(tmp_path / "own" / value) for name, value in settings.items()}
    with pytest.raises(CertificateProblem, match=told):
        trust(tmp_path / "secrets", **given).prepare(NOW)


async def test_what_ends_soon_is_renewed_while_the_stack_runs(tmp_path: Path) -> None:
    clock, said = ManualClock(NOW.timestamp()), []
    certificates.init(tmp_path, NOW)
    keeping = asyncio.create_task(keep_renewed(tmp_path, clock, said.append))

    async def passes(days: int, until: int) -> None:
        await clock.advance(timedelta(days=days).total_seconds())

        async def told() -> bool:
            await clock.advance(timedelta(hours=6).total_seconds())
            return len(said) >= until

        await waiting.until(told, within_s=20)

    await passes(59, 7)
    assert sorted(line.split()[3] for line in said) == [
        "door", "envoy", "gateway", "modelserver", "operator", "ratelimiter", "scheduler"
    ]  # fmt: skip
    assert min(one.ends for one in certificates.find(tmp_path)) > NOW + timedelta(days=140)
    (tmp_path / "old").mkdir()
    (tmp_path / "door" / "tls.crt").rename(tmp_path / "old" / "tls.crt")
    said.clear()
    await passes(70, 7)
    problems = [line for line in said if "cannot be renewed" in line]
    assert "old is no part of a mesh" in problems[0]
    assert {line.split()[3] for line in said if line not in problems} == {
        "envoy", "gateway", "modelserver", "operator", "ratelimiter", "scheduler"
    }  # fmt: skip
    (tmp_path / "old" / "tls.crt").unlink()
    (tmp_path / "ca" / "tls.key").unlink()
    said.clear()
    await passes(70, 1)
    assert "cannot be renewed" in said[0]
    assert not keeping.done()
    keeping.cancel()
