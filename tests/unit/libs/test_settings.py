from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from libs import settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One field of every kind."""

    data: Path
    address: str = field(default="127.0.0.1:1", metadata={"check": settings.is_address})
    workers: int = 2
    wait_s: float = field(default=1.5, metadata={"check": settings.is_positive})
    fast: bool = False
    places: tuple[str, ...] = ()
    token: str = field(default="", metadata={"secret": True})


def test_values_of_every_kind() -> None:
    environ = {
        "DARKROOM_DATA": "/tmp/x",
        "DARKROOM_WORKERS": "3",
        "DARKROOM_WAIT_S": "0.5",
        "DARKROOM_FAST": "Yes",
        "DARKROOM_PLACES": "a, b,",
        "PATH": "/bin",
    }
    read = settings.load(Sample, environ)
    assert read == Sample(data=Path("/tmp/x"), workers=3, wait_s=0.5, fast=True, places=("a", "b"))


def test_everything_wrong_is_said_at_once() -> None:
    environ = {
        "DARKROOM_ADRESS": "x",
        "DARKROOM_WORKERS": "many",
        "DARKROOM_WAIT_S": "-1",
        "DARKROOM_FAST": "perhaps",
        "DARKROOM_ADDRESS": "nowhere",
    }
    with pytest.raises(settings.BadSetting) as caught:
        settings.load(Sample, environ)
    lines = str(caught.value).splitlines()
    assert len(lines) == 6
    assert "DARKROOM_ADRESS is unknown; did you mean DARKROOM_ADDRESS?" in lines
    assert any(line.startswith("DARKROOM_DATA is not set") for line in lines)


def test_a_bad_setting_ends_the_process_with_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        settings.load_or_exit(Sample, {"DARKROOM_DATA": "/x", "DARKROOM_WORKERS": "1.5"})
    assert caught.value.code == 2
    assert "DARKROOM_WORKERS" in capsys.readouterr().err


def test_secrets_are_masked() -> None:
    shown = settings.describe(Sample(data=Path("/x"), token="abc"))
    assert shown["token"] == "***"
    assert shown["workers"] == "2"


@pytest.mark.parametrize(
    ("value", "fine"),
    [
        ("127.0.0.1:80", True),
        ("[::1]:0", True),
        ("host", False),
        (":80", False),
        ("h:99999", False),
        ("h:²", False),
        ("h:" + "9" * 5000, False),
    ],
)
def test_addresses(value: str, fine: bool) -> None:
    assert (settings.is_address(value) is None) is fine


@pytest.mark.parametrize(("value", "fine"), [(0.5, True), (0, False), (float("inf"), False), (float("nan"), False)])
def test_positive_numbers(value: float, fine: bool) -> None:
    assert (settings.is_positive(value) is None) is fine


@pytest.mark.parametrize(
    ("value", "fine"),
    [("host:1", True), ("10.0.0.1:1,10.0.0.2:2", True), ("10.0.0.1:1,host:2", False), ("10.0.0.1:1,", False)],
)
def test_replicas_are_addresses(value: str, fine: bool) -> None:
    assert (settings.are_replicas(value) is None) is fine
