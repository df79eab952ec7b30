"""Envoy's own refusals speak the language of the others."""

from __future__ import annotations

import pytest

from libs.rpc.status import CODES, REASONS
from services.gateway.envoy.replies import BURSTS, LIMITER_GONE, REPLIES, Reply


@pytest.mark.parametrize("reply", [*REPLIES, *BURSTS, LIMITER_GONE], ids=lambda reply: f"{reply.status}-{reply.reason}")
def test_reasons_stand_in_the_table_with_their_code(reply: Reply) -> None:
    assert CODES[REASONS[reply.reason]] == reply.code
