"""One try of a webhook over real sockets: whom it reaches, under what name, and what it makes of each answer."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from standardwebhooks import Webhook

from libs.clients.deliveries import Outcome, Result
from libs.clock import SystemClock
from services.gateway.webhooks import connection, look_ups
from services.gateway.webhooks import sender as sending
from services.gateway.webhooks.destinations import Destinations
from services.gateway.webhooks.look_ups import LookUps
from services.gateway.webhooks.sender import Sender
from tests.integration.services.gateway.receiver import BROKEN, GONE, OK, Receiver
from tests.unit.services.gateway.webhooks.deliveries import SECRET, a_delivery

CERTIFICATE = Path(__file__).parent / "hook_example.pem"  # of hook.example, signed by itself


@asynccontextmanager
async def sender(*addresses: str, insecure: bool = True) -> AsyncIterator[Sender]:
    """A sender to whom every name leads to `addresses`."""

    async def resolve(_host: str, _port: int) -> list[str]:
        if not addresses:
            raise OSError("no such name")
        return list(addresses)

    tls = ssl.create_default_context(cafile=str(CERTIFICATE))
    clock = SystemClock()
    yield Sender(Destinations(insecure), lambda _delivery: SECRET, LookUps(resolve, clock), clock, tls)


async def sent(receiver: Receiver, host: str = "hook.example", scheme: str = "http") -> Result:
    async with sender("127.0.0.1") as one:
        return await one.send(a_delivery(url=f"{scheme}://{host}:{receiver.port}/done?x=1"))


async def test_a_post_that_the_library_verifies_is_delivered() -> None:
    async with Receiver().serving() as receiver:
        assert await sent(receiver) == Result(Outcome.DELIVERED, 200)
    [post] = receiver.posts
    assert (post.line, post.headers["host"]) == ("POST /done?x=1 HTTP/1.1", f"hook.example:{receiver.port}")
    assert Webhook(SECRET).verify(post.body, post.headers)["type"] == "generation.completed"


def redirect(receiver: Receiver) -> bytes:
    return f"HTTP/1.1 307 -\r\nlocation: http://127.0.0.1:{receiver.port}/\r\ncontent-length: 0\r\n\r\n".encode()


@pytest.mark.parametrize(
    ("answer", "result"),
    [
        (b"HTTP/1.1 204 -\r\n\r\n", Result(Outcome.DELIVERED, 204)),
        (GONE, Result(Outcome.GONE, 410)),
        (BROKEN, Result(Outcome.FAILED, 500, "refused")),
        (
            b"HTTP/1.1 429 -\r\nretry-after: 30\r\ncontent-length: 0\r\n\r\n",
            Result(Outcome.FAILED, 429, "refused", 30.0),
        ),
        (
            b"HTTP/1.1 503 -\r\nretry-after: tomorrow\r\ncontent-length: 0\r\n\r\n",
            Result(Outcome.FAILED, 503, "refused"),
        ),
        (b"", Result(Outcome.FAILED, reason="unreachable")),
        (b"what?\r\n\r\n", Result(Outcome.FAILED, reason="unreachable")),
    ],
)
async def test_what_becomes_of_each_answer(answer: bytes, result: Result) -> None:
    async with Receiver((answer,)).serving() as receiver:
        assert await sent(receiver) == result


async def test_a_redirect_is_not_followed() -> None:
    async with Receiver().serving() as receiver:
        receiver.answers = (redirect(receiver), OK)
        assert await sent(receiver) == Result(Outcome.FAILED, 307, "redirected")
    assert len(receiver.posts) == 1


async def test_a_body_that_never_comes_is_not_waited_for() -> None:
    async with Receiver((b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n",)).serving() as receiver:
        async with asyncio.timeout(10):
            assert await sent(receiver) == Result(Outcome.DELIVERED, 200)


async def test_an_endless_answer_is_read_no_further_than_it_matters() -> None:
    endless = b"HTTP/1.1 200 OK\r\ncontent-length: 999999999\r\n\r\n" + b"x" * 1_000_000
    async with Receiver((endless,)).serving() as receiver:
        assert await sent(receiver) == Result(Outcome.DELIVERED, 200)


@pytest.mark.parametrize("endless", [b"HTTP/1.1 102 -\r\n\r\n", b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 50_000])
async def test_a_head_that_does_not_end_is_given_up(endless: bytes) -> None:
    async with Receiver((endless * 2_000 if len(endless) < 100 else endless + b"\r\n" + OK,)).serving() as receiver:
        assert await sent(receiver) == Result(Outcome.FAILED, reason="unreachable")


async def test_a_few_interim_answers_are_fine() -> None:
    async with Receiver((b"HTTP/1.1 103 -\r\nlink: x\r\n\r\n" * 20 + OK,)).serving() as receiver:
        assert await sent(receiver) == Result(Outcome.DELIVERED, 200)


async def test_an_address_that_does_not_even_refuse_is_left_for_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "CONNECT_S", 0.05)
    with socket.create_server(("127.0.0.2", 0), backlog=0) as deaf:
        port = deaf.getsockname()[1]
        waiting = [socket.create_connection(("127.0.0.2", port)) for _ in range(1)]  # its backlog is full
        receiver = Receiver(port=port)
        async with receiver.serving(), sender("127.0.0.2", "127.0.0.1") as one:
            result = await one.send(a_delivery(url=f"http://hook.example:{port}/"))
        assert result == Result(Outcome.DELIVERED, 200)
        for each in waiting:
            each.close()


async def test_a_name_whose_look_up_found_no_place_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(look_ups, "PLACE_S", 0.0)
    monkeypatch.setattr(look_ups, "LOOK_UPS", 0)
    async with sender("127.0.0.1") as one:
        assert await one.send(a_delivery()) == Result(Outcome.RETURNED, reason="no_place")


async def test_cookies_stay_with_nobody() -> None:
    biscuit = b"HTTP/1.1 200 OK\r\nset-cookie: a=b; path=/\r\ncontent-length: 0\r\n\r\n"
    async with Receiver((biscuit,)).serving() as receiver, sender("127.0.0.1") as one:
        for _ in range(2):
            await one.send(a_delivery(url=f"http://hook.example:{receiver.port}/"))
    assert [post.headers.get("cookie") for post in receiver.posts] == [None, None]


async def test_nobody_at_home() -> None:
    async with Receiver().serving() as receiver:
        pass
    assert await sent(receiver) == Result(Outcome.FAILED, reason="unreachable")
    async with sender() as one:
        assert await one.send(a_delivery()) == Result(Outcome.FAILED, reason="unresolved")


async def test_the_next_address_of_a_name_is_tried_when_nobody_answers_at_the_first() -> None:
    async with Receiver().serving() as receiver, sender("::1", "127.0.0.1") as one:
        url = f"http://hook.example:{receiver.port}/"
        assert await one.send(a_delivery(url=url)) == Result(Outcome.DELIVERED, 200)


async def test_a_receiver_that_does_not_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "TRY_S", 0.05)
    async with Receiver().serving() as receiver:
        receiver.release.clear()
        assert await sent(receiver) == Result(Outcome.FAILED, reason="timeout")
        receiver.release.set()


async def test_a_name_that_leads_inside_is_refused_before_anything_is_sent() -> None:
    async with Receiver().serving() as receiver, sender("127.0.0.1", insecure=False) as one:
        url = f"https://hook.example:{receiver.port}/"
        assert await one.send(a_delivery(url=url)) == Result(Outcome.FAILED, reason="address_not_allowed")
    assert receiver.posts == []


async def test_the_certificate_is_that_of_the_name_at_the_checked_address() -> None:
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(CERTIFICATE)
    async with Receiver().serving(tls) as receiver:
        assert await sent(receiver, scheme="https") == Result(Outcome.DELIVERED, 200)
        assert await sent(receiver, "other.example", "https") == Result(Outcome.FAILED, reason="tls")
    assert receiver.names == ["hook.example", "other.example"]
    assert len(receiver.posts) == 1


async def break_off_tls(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Agree on TLS as a receiver and then say what is none, until the other side has had enough."""
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(CERTIFICATE)
    heard, said = ssl.MemoryBIO(), ssl.MemoryBIO()
    end, agreed = tls.wrap_bio(heard, said, server_side=True), False
    while not agreed:
        try:
            end.do_handshake()
            agreed = True
        except ssl.SSLWantReadError:
            writer.write(said.read())
            heard.write(await reader.read(65_536))
    writer.write(said.read() + b"this is no TLS record\r\n")
    try:
        await reader.read()
    except ConnectionError:
        pass
    finally:
        writer.close()


async def test_a_receiver_that_falls_out_of_tls_is_a_failure_like_another() -> None:
    server = await asyncio.start_server(break_off_tls, "127.0.0.1", 0)
    async with server, sender("127.0.0.1") as one:
        url = f"https://hook.example:{server.sockets[0].getsockname()[1]}/"
        assert await one.send(a_delivery(url=url)) == Result(Outcome.FAILED, reason="tls")


async def test_a_socket_that_fails_in_a_way_of_its_own_is_a_failure_like_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def fails(*_given: object) -> None:
        raise OSError("the network is down")

    monkeypatch.setattr(sending, "post", fails)
    async with sender("127.0.0.1") as one:
        assert await one.send(a_delivery()) == Result(Outcome.FAILED, reason="unreachable")


async def test_two_names_at_one_address_share_no_connection() -> None:
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(CERTIFICATE)
    async with Receiver().serving(tls) as receiver, sender("127.0.0.1") as one:
        urls = [f"https://{host}:{receiver.port}/" for host in ("hook.example", "other.example")]
        results = [await one.send(a_delivery(url=url)) for url in urls]
        assert [result.outcome for result in results] == [Outcome.DELIVERED, Outcome.FAILED]
        together = await asyncio.gather(*(one.send(a_delivery(url=url)) for url in urls * 3))
    assert [result.reason for result in together] == ["", "tls"] * 3
