"""A list of networks in CIDR form, and whether an address is in one. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from services.ratelimiter.strangers.addresses import parsed

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class BadNetworks(Exception):
    """A list that cannot be taken; the message names every line that is wrong."""


@dataclass(frozen=True, slots=True)
class Networks:
    """Networks by IP version and length: a look-up costs one try for each length there is."""

    prefixes: Mapping[tuple[int, int], frozenset[int]] = field(default_factory=dict)

    def holds(self, address: str) -> bool:
        """Whether an address is in one; False for what is no address."""
        plain = parsed(address)
        if plain is None:
            return False
        number, bits = int(plain), plain.max_prefixlen
        return any(
            version == plain.version and number >> (bits - length) in known
            for (version, length), known in self.prefixes.items()
        )

    def __len__(self) -> int:
        """Return how many there are."""
        return sum(len(known) for known in self.prefixes.values())


def parse(texts: Mapping[str, str]) -> Networks:
    """Read files by their names: a network or an address a line, `#` comments. Raises BadNetworks with all problems."""
    found: dict[tuple[int, int], set[int]] = {}
    wrong: list[str] = []
    for name, text in texts.items():
        for number, line in enumerate(text.splitlines(), 1):
            entry = line.partition("#")[0].strip()
            try:
                network = ipaddress.ip_network(entry) if entry else None
            except ValueError as error:
                wrong.append(f"{name}:{number}: {error}")
                continue
            if network is not None:
                found.setdefault((network.version, network.prefixlen), set()).add(_number(network))
    if wrong:
        raise BadNetworks("\n".join(_first(wrong)))
    return Networks({length: frozenset(known) for length, known in found.items()})


def _number(network: _Network) -> int:
    return int(network.network_address) >> (network.max_prefixlen - network.prefixlen)


def _first(wrong: Iterable[str], most: int = 20) -> list[str]:
    listed = list(wrong)
    return listed if len(listed) <= most else [*listed[:most], f"and {len(listed) - most} more"]
