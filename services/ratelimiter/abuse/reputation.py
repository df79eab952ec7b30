"""Lists of networks that automata like to call from, read again when they change: all of them, or none."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path

from libs.clock import Clock
from services.ratelimiter import agent
from services.ratelimiter.abuse import networks
from services.ratelimiter.abuse.networks import BadNetworks

logger = logging.getLogger(__name__)

_LOOK_EVERY_S = 5.0


def complaint(paths: Sequence[str]) -> str | None:
    """Return what is wrong with files, for the check of a setting."""
    try:
        networks.parse(_texts(paths))
    except BadNetworks as error:
        return str(error)
    return None


class Reputation:
    """Knows what the files say; `wrong` is what is wrong with them as they lie there, empty if nothing is."""

    def __init__(self, paths: Sequence[str], clock: Clock) -> None:
        """Read them for the first time. Raises BadNetworks."""
        self._paths, self._clock = tuple(paths), clock
        self._texts = _texts(self._paths)
        self._networks = networks.parse(self._texts)
        self.wrong = ""

    def lists(self, address: str) -> bool:
        """Whether an address is in a listed network."""
        return self._networks.holds(address)

    async def run(self) -> None:
        """Look now and then until cancelled."""
        await agent.repeat("the lists of networks", self._clock, _LOOK_EVERY_S, self.look)

    async def look(self) -> None:
        """Take what the files say now, if that has changed and can be taken."""
        try:
            texts = await asyncio.to_thread(_texts, self._paths)
            if texts == self._texts and not self.wrong:
                return
            taken = await asyncio.to_thread(networks.parse, texts)
        except BadNetworks as error:
            if str(error) != self.wrong:
                self.wrong = str(error)
                told = {"problems": self.wrong.splitlines()}
                logger.error("a list of networks is wrong; those before stay in force", extra=told)
            return
        self._texts, self._networks, self.wrong = texts, taken, ""
        logger.info("took other lists of networks", extra={"networks": len(taken)})


def _texts(paths: Sequence[str]) -> dict[str, str]:
    texts, wrong = {}, []
    for path in paths:
        try:
            texts[path] = Path(path).read_text()
        except (OSError, UnicodeDecodeError) as error:
            wrong.append(f"{path}: {error}")
    if wrong:
        raise BadNetworks("\n".join(wrong))
    return texts
