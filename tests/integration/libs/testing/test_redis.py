"""The Redis of tests: what a crash leaves, and one that says nothing."""

from __future__ import annotations

import pytest
from redis.asyncio import Redis
from redis.exceptions import AuthenticationError
from redis.exceptions import TimeoutError as RedisTimeoutError

from libs.devstack import redis
from libs.testing.redis import RedisServer


async def test_a_crash_keeps_what_was_written_until_it_is_dropped():
    async with RedisServer() as server:
        async with Redis.from_url(server.url) as client:
            await client.set("a", "1")
        await server.restart()
        async with Redis.from_url(server.url) as client:
            assert await client.get("a") == b"1"
        await server.kill()
        server.forget()
        await server.start()
        async with Redis.from_url(server.url) as client:
            assert await client.get("a") is None


async def test_a_frozen_server_holds_its_connections_and_answers_nothing():
    async with RedisServer() as server, Redis.from_url(server.url, socket_timeout=1.0, retry=None) as client:
        assert await client.ping()
        server.freeze()
        with pytest.raises(RedisTimeoutError):
            await client.ping()
        server.thaw()
        assert await client.ping()


async def test_who_does_not_know_the_password_reads_and_writes_nothing() -> None:
    async with RedisServer() as server:
        for credentials in ("", ":wrong@"):
            async with Redis.from_url(f"redis://{credentials}127.0.0.1:{server.port}/0") as stranger:
                with pytest.raises(AuthenticationError):
                    await stranger.set("balance", "0")
        assert not await redis.answers(f"127.0.0.1:{server.port}", "wrong")()


@pytest.mark.parametrize("value", ["", "embedded", "redis://h:1/0", "rediss://h", "unix:///run/redis"])
def test_choices_of_a_redis(value: str) -> None:
    assert redis.is_choice(value) is None


def test_what_is_no_redis_is_told() -> None:
    assert redis.is_choice("http://h") == "must be empty, embedded, or an address like redis://host:6379/0"
