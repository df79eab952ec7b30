"""One try of one delivery: resolve, check, connect to what was checked, post, read the status and no more.

No redirects, no cookies, no proxies from the environment. No connection serves two deliveries, because behind one
address there may be several names and each must show its own certificate.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Callable
from functools import partial

import httpcore
import httpx

from libs.clients.deliveries import Delivery, Outcome, Result
from libs.clock import Clock
from services.gateway.webhooks.addresses import alternating
from services.gateway.webhooks.connection import Answer, post
from services.gateway.webhooks.destinations import Destinations, NotAllowed, Place
from services.gateway.webhooks.look_ups import LookUps, NoPlace
from services.gateway.webhooks.payload import body_of, headers_of

TRY_S = 15.0  # for all of a try behind the look-up
MOST_ADDRESSES = 3  # of a name that are tried when nobody answers
_GONE = 410
_SECONDS = re.compile(r"\d{1,6}", re.ASCII)


class Sender:
    """Sends. `secret_of` gives what a delivery is signed with."""

    def __init__(
        self,
        destinations: Destinations,
        secret_of: Callable[[Delivery], str],
        names: LookUps,
        clock: Clock,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._destinations = destinations
        self._secret_of = secret_of
        self._names = names
        self._clock = clock
        self._tls = tls or httpx.create_ssl_context()

    async def send(self, delivery: Delivery) -> Result:
        """Try once; whatever goes wrong is a result."""
        try:
            place = await self._destinations.place(delivery.url, partial(self._names.addresses, delivery.tenant_id))
        except NoPlace:
            return Result(Outcome.RETURNED, reason="no_place")
        except NotAllowed as error:
            return _failed(str(error))
        except TimeoutError:
            return _failed("timeout")
        except (OSError, UnicodeError):  # a name that nobody has, or that nobody can have
            return _failed("unresolved")
        return await self._post(delivery, place)

    async def _post(self, delivery: Delivery, place: Place) -> Result:
        try:
            async with asyncio.timeout(TRY_S):
                return _result(await self._post_to_any(delivery, place))
        except (TimeoutError, httpcore.TimeoutException):
            return _failed("timeout")
        except (httpcore.NetworkError, httpcore.ProtocolError) as error:
            return _failed("tls" if "SSL" in str(error) else "unreachable")
        except ssl.SSLError:  # what comes is no TLS record: the library hands that on as it is
            return _failed("tls")
        except OSError:
            return _failed("unreachable")

    async def _post_to_any(self, delivery: Delivery, place: Place) -> Answer:
        body = body_of(delivery)
        content = headers_of(delivery, body, self._secret_of(delivery), self._clock.now()), body
        *others, last = alternating(place.addresses)[:MOST_ADDRESSES]
        for address in others:
            try:
                return await post(address, place.url, place.receiver.host, content, self._tls, TRY_S)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                continue  # nothing was sent
        return await post(last, place.url, place.receiver.host, content, self._tls, TRY_S)


def _result(answer: Answer) -> Result:
    status = answer.status
    if httpx.codes.is_success(status):
        return Result(Outcome.DELIVERED, status)
    if status == _GONE:
        return Result(Outcome.GONE, status)
    asked = answer.headers.get("retry-after", "")
    retry_after_s = float(asked) if _SECONDS.fullmatch(asked) else 0.0
    return Result(Outcome.FAILED, status, "redirected" if httpx.codes.is_redirect(status) else "refused", retry_after_s)


def _failed(reason: str) -> Result:
    return Result(Outcome.FAILED, reason=reason)
