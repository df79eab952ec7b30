"""Which addresses belong to the public, and which of them a name has."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor
from itertools import zip_longest

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# Beyond what the standard library calls not global, in the releases that we run on.
_CLOSED = tuple(
    ipaddress.ip_network(network)
    for network in (
        "192.0.0.0/24",  # protocol assignments
        "192.88.99.0/24",  # relays into IPv6
        "168.63.129.16/32",  # a cloud's own services, at an address that looks public
        "2001::/23",  # protocol assignments, Teredo among them: IPv4 addresses in disguise
        "2002::/16",  # 6to4, the same
        "3fff::/20",  # documentation
        "5f00::/16",  # segment routing
        "64:ff9b:1::/48",  # translation into private networks
    )
)
_TRANSLATED = ipaddress.IPv6Network("64:ff9b::/96")  # the last 32 bits are an IPv4 address


def is_public(text: str) -> bool:
    """Whether anybody on the internet means the same host by an address."""
    try:
        address: _Address = ipaddress.ip_address(text)
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address):
        if address.scope_id is not None or address.is_site_local:
            return False
        address = _embedded(address) or address
    if not address.is_global or address.is_multicast or address.is_reserved:
        return False
    return not any(address in network for network in _CLOSED)


def is_address(text: str) -> bool:
    """Whether a host is an address and no name."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def alternating(addresses: Sequence[str]) -> list[str]:
    """Return addresses in their order, but of the two families in turn: often only one of them leads anywhere."""
    first = [each for each in addresses if (":" in each) == (":" in addresses[0])]
    second = [each for each in addresses if each not in first]
    return [each for pair in zip_longest(first, second) for each in pair if each is not None]


def resolver(executor: Executor) -> Resolve:
    """Return a look-up by the system's resolver, which blocks a thread of `executor`."""

    async def resolve(host: str, port: int) -> list[str]:
        """Return every address of a name in the system's order; raises OSError when it has none."""

        def look_up() -> list[str]:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            return list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))

        return await asyncio.get_running_loop().run_in_executor(executor, look_up)

    return resolve


def _embedded(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    if address in _TRANSLATED:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped
