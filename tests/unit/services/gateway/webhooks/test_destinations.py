"""Where a webhook may go: when a job asks for it and at every delivery."""

from __future__ import annotations

import pytest

from darkroom.v1 import job_pb2
from libs.errors import InvalidRequest, PermissionDenied
from libs.ids import TenantId
from libs.testing.clock import ManualClock
from services.gateway.callers.identity import Caller
from services.gateway.creating.admission import Admission
from services.gateway.creating.drafts import Draft, price
from services.gateway.creating.estimating import Estimator
from services.gateway.creating.parsing import parse_draft
from services.gateway.webhooks.destinations import MAX_URL, PUBLIC_ONLY, Destinations, NotAllowed
from tests.unit.services.gateway.fakes import CALLER, MODEL, FakeLimiter, FakeScheduler, catalog, uploads

INSECURE = Destinations(insecure=True)
URL = "https://hook.example/done"


def told(url: str, events: list[str] | None = None, rule: Destinations = PUBLIC_ONLY) -> dict[str, str]:
    spec = job_pb2.JobSpec(webhook=job_pb2.Webhook(url=url, events=events or []))
    return {problem.field: problem.description for problem in rule.problems(spec)}


def refused(body: bytes) -> dict[str, str]:
    with pytest.raises(InvalidRequest) as caught:
        price(parse_draft(body), catalog(MODEL))
    return {problem.field: problem.description for problem in caught.value.violations}


def leads_to(*addresses: str):
    async def resolve(_host: str, _port: int) -> list[str]:
        return list(addresses)

    return resolve


@pytest.mark.parametrize(
    "url",
    [
        *(URL, "https://hook.example:8443/a?b=c", "https://8.8.8.8/", "https://[2606:4700::1]/x"),
        *(
            "https://hook.example.:1024",
            "https://hook.example/me@home",
            "https://xn--strae-oqa.de/",
            "https://xn--zzzzzz--/",
        ),
    ],
)
def test_places_that_are_fine(url: str) -> None:
    assert told(url, ["started", "completed"]) == {}


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("", "must not be empty"),
        ("http://hook.example/", "must be a URL that begins with https://"),
        ("ftp://hook.example/", "must be a URL"),
        ("hook.example/done", "must be a URL"),
        ("https://", "must be a URL"),
        ("https:///done", "must be a URL"),
        ("https://[::1", "must be a URL"),
        ("https://hook.example:99999/", "must be a URL"),
        ("https://hook.example:0/", "must be a URL"),
        ("https://me:word@hook.example/", "neither a user name"),
        ("https://hook.example/#part", "nor a fragment"),
        ("https://127.0.0.1/", "private network"),
        *((f"https://{host}/", "must be a URL") for host in ("a]b", "a[b", "a[b]c", "a\\b", "a%00b", "a^b", "a..b")),
        *((f"https://hook.example:{port}/", "must have no port") for port in (22, 80, 1023)),
        ("https://[::ffff:10.0.0.1]/", "private network"),
        ("https://169.254.169.254/latest", "private network"),
        ("https://hook.example/a b", "printable"),
        ("https://hööks.example/", "printable"),
        ("https://hook.example/\0", "printable"),
        (f"https://hook.example/{'x' * MAX_URL}", "at most 1000"),
    ],
)
def test_places_that_are_not(url: str, words: str) -> None:
    found = told(url)
    assert list(found) == ["webhook.url"]
    assert words in found["webhook.url"]


def test_rehearsals_may_go_anywhere() -> None:
    assert told("http://127.0.0.1:80/x", rule=INSECURE) == {}
    assert "http://" in told("ftp://127.0.0.1/x", rule=INSECURE)["webhook.url"]


def test_events_that_nobody_can_be_told_of() -> None:
    assert "'progress' is none" in told(URL, ["completed", "progress"])["webhook.events"]
    assert "has 7 entries" in told(URL, ["failed"] * 7)["webhook.events"]
    assert set(told("", ["queued"])) == {"webhook.url", "webhook.events"}


@pytest.mark.parametrize(
    ("webhook", "field", "words"),
    [
        (b'"https://hook.example"', "webhook", "must be an object, not a text"),
        (b"[]", "webhook", "must be an object, not a list"),
        (b'{"url": 5}', "webhook.url", "must be a text, not 5"),
        (
            b'{"url": "https://hook.example", "events": "failed"}',
            "webhook.events",
            "must be a list of texts, not a text",
        ),
        (b'{"url": "https://hook.example", "events": ["failed", 5]}', "webhook.events[1]", "must be a text, not 5"),
        (b'{"url": "https://hook.example", "events": [null]}', "webhook.events[0]", "must be a text, not null"),
        (b'{"url": "https://hook.example", "event": []}', "webhook.event", "is not a field; did you mean events?"),
        (b'{"url": "a", "url": "b"}', "webhook", "holds url more than once"),
        (b'{"url": "\\ud800"}', "webhook", "must be an object of valid Unicode"),
        (b"{}", "webhook.url", "must not be empty"),
    ],
)
def test_a_webhook_that_is_no_webhook(webhook: bytes, field: str, words: str) -> None:
    assert refused(b'{"prompt": "a", "webhook": ' + webhook + b"}") == {field: words}


def test_it_is_refused_together_with_all_else() -> None:
    body = b'{"prompt": "", "steps": "4", "webhook": {"url": "http://hook.example", "events": ["done"]}}'
    assert set(refused(body)) == {"prompt", "steps", "webhook.url", "webhook.events"}


def test_a_request_gets_the_final_events_unless_it_names_some() -> None:
    body = b'{"prompt": "a", "webhook": {"url": "https://hook.example/", "events": null}}'
    webhook = price(parse_draft(body), catalog(MODEL)).spec.webhook
    assert webhook is not None
    assert webhook.events == ("completed", "failed", "cancelled", "expired")
    some = b'{"prompt": "a", "webhook": {"url": "https://hook.example/", "events": ["failed", "image", "failed"]}}'
    webhook = price(parse_draft(some), catalog(MODEL)).spec.webhook
    assert webhook is not None
    assert webhook.events == ("image", "failed")


async def test_every_address_of_a_name_must_be_public() -> None:
    place = await PUBLIC_ONLY.place(URL, leads_to("8.8.8.8", "2606:4700::1"))
    assert place.addresses == ("8.8.8.8", "2606:4700::1")
    for addresses in (("127.0.0.1",), ("8.8.8.8", "10.0.0.1"), ("::ffff:169.254.169.254",)):
        with pytest.raises(NotAllowed, match="address_not_allowed"):
            await PUBLIC_ONLY.place(URL, leads_to(*addresses))
    assert (await INSECURE.place("http://hook.example/", leads_to("127.0.0.1"))).addresses == ("127.0.0.1",)


async def test_what_a_rehearsal_let_in_does_not_leave_without_it() -> None:
    with pytest.raises(NotAllowed, match="url_not_allowed"):
        await PUBLIC_ONLY.place("http://hook.example/", leads_to("8.8.8.8"))


async def test_a_name_of_other_letters_is_asked_for_as_it_stands() -> None:
    asked = []

    async def resolve(host: str, _port: int) -> list[str]:
        asked.append(host)
        return ["8.8.8.8"]

    place = await PUBLIC_ONLY.place("https://xn--strae-oqa.de./done", resolve)
    assert (asked, place.receiver.host) == (["xn--strae-oqa.de"], "xn--strae-oqa.de")


async def test_an_address_is_not_looked_up() -> None:
    async def resolve(_host: str, _port: int) -> list[str]:
        raise AssertionError("asked")

    assert (await PUBLIC_ONLY.place("https://[2606:4700::1]/", resolve)).addresses == ("2606:4700::1",)


@pytest.mark.parametrize("validate_only", [False, True])
async def test_who_has_no_key_has_no_webhook(validate_only: bool) -> None:
    scheduler, limiter = FakeScheduler(), FakeLimiter()
    parts = scheduler, limiter, catalog(MODEL), uploads()
    asked = Draft(job_pb2.JobSpec(prompt="x", webhook=job_pb2.Webhook(url=URL), validate_only=validate_only), "once")
    stranger = Caller(TenantId("anon:1.2.3.4"), "anonymous")
    for refusing in (
        Admission(*parts, ManualClock()).admit(stranger, asked),
        Estimator(*parts).estimate(stranger, asked),
    ):
        with pytest.raises(PermissionDenied) as caught:
            await refusing
        assert [problem.field for problem in caught.value.violations] == ["webhook"]
    assert scheduler.log == limiter.log == []
    assert (await Admission(*parts, ManualClock()).admit(CALLER, asked)).job
