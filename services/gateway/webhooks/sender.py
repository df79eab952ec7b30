"""One try of one delivery: resolve, check, connect to what was checked, post, read no more than a little.

The bare transport is used: no redirects, no cookies, no proxies from the environment. No connection serves two
deliveries, because behind one address there may be several names and each must show its own certificate.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Callable

import httpx

from libs.clients.deliveries import Delivery, Outcome, Result
from libs.clock import Clock
from libs.ids import TenantId
from services.gateway.webhooks.addresses import Resolve
from services.gateway.webhooks.destinations import Destinations, NotAllowed, Place
from services.gateway.webhooks.payload import body_of, headers_of

TRY_S = 15.0  # for all of a try
MOST_ADDRESSES = 3  # of a name that are tried when nobody answers
MOST_READ = 64 * 1024  # bytes of an answer; what it says does not matter
_GONE = 410
_SECONDS = re.compile(r"\d{1,6}", re.ASCII)


class Sender:
    """Sends. `secret_of` gives what webhooks of a tenant are signed with."""

    def __init__(
        self,
        destinations: Destinations,
        secret_of: Callable[[TenantId], str],
        resolve: Resolve,
        clock: Clock,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._destinations = destinations
        self._secret_of = secret_of
        self._resolve = resolve
        self._clock = clock
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        self._transport = httpx.AsyncHTTPTransport(
            verify=tls or httpx.create_ssl_context(), limits=limits, trust_env=False
        )

    async def send(self, delivery: Delivery) -> Result:
        """Try once; whatever goes wrong is a result."""
        try:
            async with asyncio.timeout(TRY_S):
                place = await self._destinations.place(delivery.url, self._resolve)
                return await self._post(delivery, place)
        except NotAllowed as error:
            return _failed(str(error))
        except (TimeoutError, httpx.TimeoutException):
            return _failed("timeout")
        except httpx.TransportError as error:
            return _failed("tls" if "SSL" in str(error) else "unreachable")
        except (OSError, UnicodeError):  # a name that nobody has, or that nobody can have
            return _failed("unresolved")

    async def close(self) -> None:
        """Close what is open."""
        await self._transport.aclose()

    async def _post(self, delivery: Delivery, place: Place) -> Result:
        body = body_of(delivery)
        headers = headers_of(delivery, body, self._secret_of(delivery.tenant_id), self._clock.now())
        tried = place.addresses[:MOST_ADDRESSES]
        for number, address in enumerate(tried, start=1):
            try:
                return await self._post_to(address, place, body, dict(headers))
            except httpx.ConnectError:  # nothing was sent
                if number == len(tried):
                    raise
        return _failed("unresolved")

    async def _post_to(self, address: str, place: Place, body: bytes, headers: dict[str, str]) -> Result:
        request = httpx.Request(
            "POST",
            place.url.copy_with(host=address),
            content=body,
            headers={"host": place.url.netloc.decode("ascii"), "connection": "close", **headers},
            extensions={"sni_hostname": place.receiver.host, "timeout": httpx.Timeout(TRY_S).as_dict()},
        )
        answer = await self._transport.handle_async_request(request)
        try:
            await _read_a_little(answer)
            return _result(answer)
        finally:
            await answer.aclose()


async def _read_a_little(answer: httpx.Response) -> None:
    read = 0
    async for chunk in answer.aiter_raw():
        read += len(chunk)
        if read > MOST_READ:
            return


def _result(answer: httpx.Response) -> Result:
    status = answer.status_code
    if answer.is_success:
        return Result(Outcome.DELIVERED, status)
    if status == _GONE:
        return Result(Outcome.GONE, status)
    asked = answer.headers.get("retry-after", "")
    retry_after_s = float(asked) if _SECONDS.fullmatch(asked) else 0.0
    return Result(Outcome.FAILED, status, "redirected" if answer.is_redirect else "refused", retry_after_s)


def _failed(reason: str) -> Result:
    return Result(Outcome.FAILED, reason=reason)
