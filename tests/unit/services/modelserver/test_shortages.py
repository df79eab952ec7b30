"""Memory that a test takes away: what strikes whom, and that nothing but a test can ask for it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest

from libs.devstack.settings import StackSettings
from libs.generation.spec import GenerationSpec
from libs.settings import BadSetting, load
from services.gateway.settings import Settings as GatewaySettings
from services.modelserver.engine.protocol import Request
from services.modelserver.settings import ModelServerSettings
from services.modelserver.shortages import Shortage, shortages_of

BELOW_PYTEST = {"PYTEST_VERSION": "9"}


def request(width: int = 128, height: int = 120, attempt: int = 1) -> Request:
    spec = SimpleNamespace(width=width, height=height)
    return Request(f"job_1/{attempt}", cast("object", None), cast("GenerationSpec", spec))  # type: ignore[arg-type]


def test_more_rows_than_fit_at_its_size_strike_every_attempt() -> None:
    (shortage,) = shortages_of(["out_of_memory:128x120:2"])
    assert shortage == Shortage(128, 120, 2)
    assert [shortage.strikes(request(), rows) for rows in (2, 3)] == [False, True]
    assert not shortage.strikes(request(width=120), 3)
    assert shortage.strikes(request(attempt=9), 3)


def test_it_may_strike_the_first_attempts_alone() -> None:
    (shortage,) = shortages_of(["out_of_memory:128x120:0:2"])
    assert [shortage.strikes(request(attempt=attempt), 1) for attempt in (1, 2, 3)] == [True, True, False]


@pytest.mark.parametrize("text", ["anywhere", "out_of_memory", "out_of_memory:128:2", "out_of_memory:128x128:-1"])
def test_settings_refuse_what_is_no_failpoint(text: str) -> None:
    with pytest.raises(BadSetting, match=r"DARKROOM_FAILPOINT.*must be out_of_memory:WIDTHxHEIGHT:ROWS"):
        load(ModelServerSettings, {"DARKROOM_DATA": "/x", "DARKROOM_FAILPOINT": text} | BELOW_PYTEST)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (ModelServerSettings, "out_of_memory:128x120:2"),
        (GatewaySettings, "after_reserve"),
        (StackSettings, "after_reserve"),
    ],
)
def test_no_process_takes_a_failpoint_but_below_pytest(kind: type, text: str) -> None:
    addresses = {f"DARKROOM_{name}_ADDRESS": "127.0.0.1:1" for name in ("SCHEDULER", "LIMITER")}
    given = {"DARKROOM_DATA": "/x"} | (addresses if kind is GatewaySettings else {})
    assert load(kind, given | {"DARKROOM_FAILPOINT": text} | BELOW_PYTEST)
    assert load(kind, given | {"DARKROOM_FAILPOINT": ""})
    with pytest.raises(BadSetting, match=r"DARKROOM_FAILPOINT.*only below pytest"):
        load(kind, given | {"DARKROOM_FAILPOINT": text})
