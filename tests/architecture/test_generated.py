"""Generated files are what their generators make."""

from __future__ import annotations

from tests.architecture import drift


def test_generated_code_is_current() -> None:
    assert drift.stale_protos() == []


def test_deployed_envoy_configuration_is_current() -> None:
    assert drift.stale_envoy() == []
