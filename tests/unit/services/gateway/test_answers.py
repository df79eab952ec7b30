from __future__ import annotations

import json
from typing import Any

import pytest

from darkroom.v1 import job_pb2
from darkroom.v1 import site_service_pb2 as site
from libs.clients.limiter import Denial
from libs.errors import InvalidRequest, Unauthenticated, Unavailable
from libs.rpc import headers
from libs.scopes import Scope
from libs.settings import BadSetting, load
from libs.signing import Signer
from libs.testing.clock import ManualClock
from services.gateway.callers.identity import Caller, caller_of
from services.gateway.callers.withdrawals import Withdrawals
from services.gateway.creating.admission import Admission
from services.gateway.creating.creation import Creation, keyed
from services.gateway.creating.drafts import Draft
from services.gateway.creating.estimating import Estimator
from services.gateway.health import HealthCheck
from services.gateway.reading.links import Links
from services.gateway.reading.presentation import Presenter, job_headers, poll_after_s
from services.gateway.reading.relay import EventRelay
from services.gateway.reading.waiting import Waiting
from services.gateway.settings import Settings
from services.gateway.site_servicer import SiteServicer, load_page
from tests.unit.services.gateway.fakes import (
    CALLER,
    COMPLETED,
    JOB,
    KEYS,
    MODEL,
    NOW,
    FakeLimiter,
    FakeScheduler,
    catalog,
    image,
    job,
    uploads,
)

PRESENTER = Presenter(Links(Signer(KEYS)))
BODY = b'{"prompt": "a"}'


class Context:
    """As much of a call as servicers read."""

    def __init__(self, **given: str) -> None:
        self._given = tuple((name.replace("_", "-"), value) for name, value in given.items())

    def invocation_metadata(self) -> Any:
        return (*self._given, ("grpc-trace-bin", b"\0"))


def creation(scheduler: FakeScheduler) -> Creation:
    clock = ManualClock(NOW)
    relay = EventRelay(scheduler, PRESENTER, clock)
    admission = Admission(scheduler, FakeLimiter(), catalog(MODEL), uploads(), clock)
    return Creation(admission, uploads(), Waiting(scheduler, relay, Withdrawals(clock), clock), PRESENTER)


async def test_a_waiting_job_is_202_with_where_and_when() -> None:
    collected = headers.begin()
    made = await creation(FakeScheduler()).from_json(CALLER, BODY, {})
    assert {"x-http-code": "202", "location": f"/v1/jobs/{JOB}", "retry-after": "1"}.items() <= collected.items()
    assert "idempotent-replayed" not in collected
    assert made.events_url.startswith(f"/v1/jobs/{JOB}/events?token=")


async def test_a_job_that_finished_while_waiting_is_200() -> None:
    scheduler = FakeScheduler(scripts=[(COMPLETED,)], jobs={JOB: job(job_pb2.Job.SUCCEEDED, images=[image()])})
    collected = headers.begin()
    made = await creation(scheduler).from_json(CALLER, BODY, {"prefer": "wait=60"})
    assert {"x-http-code": "200", "preference-applied": "wait=60"}.items() <= collected.items()
    assert "retry-after" not in collected
    assert made.images[0].url.startswith("/v1/blobs/")


async def test_a_request_that_is_only_checked_is_200_and_nowhere() -> None:
    collected = headers.begin()
    made = await creation(FakeScheduler()).from_json(CALLER, b'{"prompt": "a", "validate_only": true}', {})
    assert (collected["x-http-code"], made.id, made.events_url) == ("200", "", "")
    assert "location" not in collected


async def test_the_idempotency_key_may_stand_in_the_header() -> None:
    scheduler = FakeScheduler()
    await creation(scheduler).from_json(CALLER, BODY, {"idempotency-key": "once"})
    assert scheduler.submissions[0].request_id == "once"


def test_header_and_body_must_name_the_same_key() -> None:
    assert keyed(Draft(job_pb2.JobSpec(), "a"), "a").request_id == "a"
    with pytest.raises(InvalidRequest):
        keyed(Draft(job_pb2.JobSpec(), "a"), "b")


def test_headers_of_a_job() -> None:
    waiting = job(queue=job_pb2.QueueStatus(position=3, wait_p50_s=1.2), cost=job_pb2.Cost(estimated_units=1500))
    assert dict(job_headers(waiting)) == {
        "x-model-version": "shapes@abc", "x-cost-estimated": "1500", "x-queue-position": "3", "x-estimated-wait": "2",
    }  # fmt: skip
    assert "x-queue-position" not in dict(job_headers(job(job_pb2.Job.RUNNING)))
    assert poll_after_s(waiting) == 3
    assert poll_after_s(job(job_pb2.Job.RUNNING, progress=job_pb2.Progress(eta_s=7.5))) == 8
    assert poll_after_s(job(queue=job_pb2.QueueStatus(wait_p50_s=9999))) == 60


def test_links_end_with_the_pictures() -> None:
    done = job(job_pb2.Job.SUCCEEDED, images=[image()])
    assert f"?e={NOW + 86400}&" in PRESENTER.job(done).images[0].url
    done.expire_time.FromSeconds(NOW + 5)
    assert f"?e={NOW + 5}&" in PRESENTER.job(done).images[0].url
    assert done.events_url == ""


async def test_an_estimate_of_what_would_be_taken() -> None:
    scheduler = FakeScheduler(queue=job_pb2.QueueStatus(position=4))
    collected = headers.begin()
    estimate = await Estimator(scheduler, FakeLimiter(), catalog(MODEL), uploads()).estimate(
        CALLER, Draft(job_pb2.JobSpec(prompt="a"))
    )
    assert (estimate.would_admit, estimate.binding_limit, estimate.queue.position) == (True, "", 4)
    assert 0 < estimate.run_p50_s < estimate.run_p90_s
    assert estimate.run_p90_s == estimate.units / 1000
    assert (len(estimate.cheaper), collected) == (3, {"x-ratelimit-remaining-cost": "5"})


async def test_an_estimate_of_what_would_be_refused() -> None:
    limiter = FakeLimiter(denial=Denial("cost", 6000, 2500, 38), available_units=2500)
    estimate = await Estimator(FakeScheduler(), limiter, catalog(MODEL), uploads()).estimate(
        CALLER, Draft(job_pb2.JobSpec(prompt="a"))
    )
    assert (estimate.would_admit, estimate.binding_limit, estimate.retry_after_s) == (False, "cost", 38)
    assert all(option.units <= 2500 for option in estimate.cheaper)
    limiter.denial = Denial("requests", 60, 0, 1)
    estimate = await Estimator(FakeScheduler(), limiter, catalog(MODEL), uploads()).estimate(
        CALLER, Draft(job_pb2.JobSpec(prompt="a"))
    )
    assert (estimate.binding_limit, list(estimate.cheaper)) == ("requests", [])


async def health(scheduler: FakeScheduler, limiter: FakeLimiter, *models: Any) -> tuple[str, dict[str, Any]]:
    servicer = SiteServicer(HealthCheck(scheduler, limiter, catalog(*models)), b"")
    collected = headers.begin()
    body = await servicer.GetHealth(site.GetHealthRequest(), Context())  # type: ignore[arg-type]
    return collected["x-http-code"], json.loads(body.data)


async def test_health_names_what_is_missing() -> None:
    assert (await health(FakeScheduler(), FakeLimiter(), MODEL))[0] == "200"
    code, told = await health(FakeScheduler(failure=Unavailable("away")), FakeLimiter(failure=Unavailable("off")))
    assert (code, told["missing"]) == ("503", ["store", "limiter", "models"])
    assert told["parts"]["limiter"] == "off"


async def test_the_page_has_a_tag_and_a_policy() -> None:
    servicer = SiteServicer(HealthCheck(FakeScheduler(), FakeLimiter(), catalog()), load_page())
    collected = headers.begin()
    body = await servicer.GetPage(site.GetPageRequest(), Context())  # type: ignore[arg-type]
    assert (body.content_type, b"<title>Darkroom</title>" in body.data) == ("text/html; charset=utf-8", True)
    assert "default-src 'none'" in collected["content-security-policy"]
    assert "x-http-code" not in collected
    again = await servicer.GetPage(site.GetPageRequest(), Context(if_none_match=collected["etag"]))  # type: ignore[arg-type]
    assert (again.data, collected["x-http-code"]) == (b"", "304")


def test_the_page_loads_nothing_from_elsewhere() -> None:
    page = load_page().decode()
    assert "http://" not in page
    assert "https://" not in page
    assert len(page.splitlines()) <= 150


def test_who_is_calling() -> None:
    given = {"x_darkroom_tenant": "acme", "x_darkroom_tier": "pro", "x_darkroom_key_id": "key_1"}
    usual = {"x_darkroom_scopes": "jobs:write jobs:read models:read usage:read webhooks:write"}
    assert caller_of(Context(**given, **usual)) == CALLER  # type: ignore[arg-type]
    anonymous = Context(x_darkroom_tenant="anon:1.2.3.4", x_darkroom_tier="anonymous", x_darkroom_scopes="jobs:read x")
    one = frozenset({Scope.JOBS_READ})
    assert caller_of(anonymous) == Caller("anon:1.2.3.4", "anonymous", "", one)  # type: ignore[arg-type]
    for absent in ({"x_darkroom_tenant": "acme"}, {"x_darkroom_tier": "pro"}, {}):
        with pytest.raises(Unauthenticated):
            caller_of(Context(**absent))  # type: ignore[arg-type]


def test_settings_refuse_an_unknown_failpoint() -> None:
    environ = {
        "DARKROOM_DATA": "/x",
        "DARKROOM_SCHEDULER_ADDRESS": "127.0.0.1:1",
        "DARKROOM_LIMITER_ADDRESS": "127.0.0.1:2",
    }
    assert load(Settings, environ).blob_place == "/x/blobs"
    assert load(Settings, {**environ, "DARKROOM_BLOBS": "s3://b"}).blob_place == "s3://b"
    with pytest.raises(BadSetting, match="DARKROOM_FAILPOINT"):
        load(Settings, {**environ, "DARKROOM_FAILPOINT": "anywhere"})
