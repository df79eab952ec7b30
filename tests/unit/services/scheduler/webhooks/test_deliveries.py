"""Whom the deliveries of a job go to."""

from __future__ import annotations

import pytest

from services.scheduler.webhooks import deliveries


@pytest.mark.parametrize("url", ["https://Hook.Example:8443/a", "https://hook.example./", "https://hook.example"])
def test_a_host_is_counted_alike_however_it_is_written(url: str) -> None:
    assert deliveries.host_of(url) == "hook.example"


@pytest.mark.parametrize("url", ["https://a]b/", "https://a[b/", "https://a[b]c/", "", "https://[::1"])
def test_whom_a_url_leads_to_may_be_unknown(url: str) -> None:
    assert deliveries.host_of(url) == ""
