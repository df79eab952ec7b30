"""The setting of what one address may send, and which requests are of which kind."""

from __future__ import annotations

import re

import pytest

from libs.testing import rest
from services.gateway.envoy import bursts
from services.gateway.envoy.bursts import Bursts
from services.ratelimiter.door.callers import Question


@pytest.mark.parametrize(
    ("text", "taken"),
    [
        ("", Bursts()),
        ("off", None),
        (" off ", None),
        ("strangers_burst=8, reads_per_min=1200", Bursts(strangers_burst=8, reads_per_min=1200)),
    ],
)
def test_a_setting_says_what_differs(text: str, taken: Bursts | None) -> None:
    assert bursts.parse(text) == taken


@pytest.mark.parametrize("text", ["on", "reads=5", "reads_per_min=0", "reads_per_min=-1", "reads_per_min=x", "0"])
def test_a_wrong_setting_is_told_with_what_is_right(text: str) -> None:
    with pytest.raises(ValueError, match="strangers_per_s") as refused:
        bursts.parse(text)
    assert text in str(refused.value)


@pytest.mark.parametrize(
    ("path", "creates", "estimates"),
    [
        ("/v1/jobs", True, False),
        ("/v1/jobs?x=1", True, False),
        ("/v1/uploads", True, False),
        ("/darkroom.v1.GenerationService/CreateJob", True, False),
        ("/darkroom.v1.GenerationService/CreateJobJson", True, False),
        ("/darkroom.v1.UploadService/UploadImage", True, False),
        ("/v1/jobs:estimate", False, True),
        ("/darkroom.v1.GenerationService/EstimateJob", False, True),
        ("/v1/jobs/job_1", False, False),
        ("/v1/jobs/job_1:cancel", False, False),
        ("/darkroom.v1.GenerationService/GetJob", False, False),
        ("/v1/limits", False, False),
        ("/v1/usage?by=day", False, False),
        ("/v1/events", False, False),
        ("/darkroom.v1.AccountService/GetLimits", False, False),
    ],
)
def test_what_is_a_creation_and_what_an_estimate(path: str, creates: bool, estimates: bool) -> None:
    assert bool(re.fullmatch(bursts.CREATING, path)) is creates
    assert bool(re.fullmatch(bursts.ESTIMATING, path)) is estimates
    assert Question(method="POST", path=path).creates is creates  # the rate limiter and Envoy mean the same


@pytest.mark.parametrize("asked", rest.operations(), ids=lambda asked: f"{asked.method} {asked.path}")
@pytest.mark.parametrize("more", ["/", "//", "/?x=1", "//?"])
def test_a_path_is_of_its_kind_with_slashes_behind_it(asked: rest.Operation, more: str) -> None:
    # The transcoder takes them away: what is bounded without them must be bounded with them.
    for kind in (bursts.CREATING, bursts.ESTIMATING):
        assert bool(re.fullmatch(kind, asked.path + more)) is bool(re.fullmatch(kind, asked.path))
    with_slash, without = (Question(method=asked.method, path=path) for path in (asked.path + more, asked.path))
    assert with_slash.creates is without.creates


@pytest.mark.parametrize("path", ["/v1/accounts", "/v1/keys", "/darkroom.v1.AccountService/CreateAccount"])
def test_accounts_and_keys_are_made_as_slowly_as_jobs_and_are_none(path: str) -> None:
    assert re.fullmatch(bursts.CREATING, path)
    assert not Question(method="POST", path=path).creates
