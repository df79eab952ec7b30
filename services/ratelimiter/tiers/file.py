"""The file of the tiers, read again when it changes. One that is wrong leaves the tiers before in force, loudly."""

from __future__ import annotations

import asyncio
import logging
import os
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

from libs.clock import Clock
from libs.errors import InvalidRequest, PreconditionFailed, Violation
from services.ratelimiter import agent
from services.ratelimiter.meters import Meters
from services.ratelimiter.tiers import policy
from services.ratelimiter.tiers.policy import BadTiers, Policy
from services.ratelimiter.tiers.tariffs import Tariffs

logger = logging.getLogger(__name__)

_LOOK_EVERY_S = 2.0
NAME = "tiers.toml"
_READABLE = 0o644


def place(named: Path, data: Path) -> Path:
    """Return where the tiers are read: the file that is named, else that of the data folder, there or not."""
    return data / NAME if named == Path() else named


def read(path: Path, named: Path) -> str:
    """Return the text in force; without a file in the data folder the shipped one. Raises OSError."""
    if named == Path() and not path.exists():
        return policy.SHIPPED.read_text()
    return path.read_text()


class TiersFile:
    """Follows the file while `run` runs. `wrong` says what is wrong with it as it lies there, empty if nothing is."""

    def __init__(self, named: Path, data: Path, clock: Clock, meters: Meters) -> None:
        """Read it for the first time. Raises BadTiers: without tiers nothing can be decided."""
        self.path, self._named = place(named, data), named
        self._clock, self._meters = clock, meters
        self._text = self._read()
        self.tariffs = Tariffs(policy.parse(self._text, str(self.path)))
        self.wrong = ""
        self._meters.tiers_read(good=True)

    async def run(self, tell: Callable[[bool], Awaitable[None]]) -> None:
        """Look now and then until cancelled, and tell whether the file as it lies there is in force."""

        async def look() -> None:
            await self.look()
            await tell(not self.wrong)

        await agent.repeat("the tiers", self._clock, _LOOK_EVERY_S, look)

    async def look(self) -> None:
        """Take what the file says now, if it has changed and can be taken."""
        try:
            text = await asyncio.to_thread(self._read)
            if text == self._text and not self.wrong:
                return
            tiers = policy.parse(text, str(self.path))
        except BadTiers as error:
            self._refuse(str(error))
            return
        self._take(text, tiers)

    def check(self, text: str) -> list[str]:
        """Return what a text would change in the tiers in force. Raises InvalidRequest with all that is wrong."""
        return policy.changes(self.tariffs.policy, _parsed(text))

    async def apply(self, text: str) -> list[str]:
        """Write a text where the file is read and take it at once; return what changed.

        Raises InvalidRequest with all that is wrong with it, and PreconditionFailed when it cannot be written there.
        """
        tiers = _parsed(text)
        changed = policy.changes(self.tariffs.policy, tiers)
        try:
            await asyncio.to_thread(_write, self.path, text)
        except OSError as error:
            told = f"{self.path} cannot be written: {error.strerror}. Nothing changed; bring the file there yourself."
            raise PreconditionFailed(told, metadata={"path": str(self.path)}) from error
        self._take(text, tiers)
        return changed

    def _read(self) -> str:
        try:
            return read(self.path, self._named)
        except (OSError, UnicodeDecodeError) as error:
            raise BadTiers(f"{self.path}: {error}") from error

    def _take(self, text: str, tiers: Policy) -> None:
        changed = policy.changes(self.tariffs.policy, tiers)
        self._text, self.wrong = text, ""
        self.tariffs.take_tiers(tiers)
        self._meters.tiers_read(good=True)
        logger.info("took other tiers", extra={"path": str(self.path), "changes": changed})

    def _refuse(self, wrong: str) -> None:
        if wrong != self.wrong:
            told = {"path": str(self.path), "problems": wrong.splitlines()}
            logger.error("the file of the tiers is wrong; those before stay in force", extra=told)
        self.wrong = wrong
        self._meters.tiers_read(good=False)


def _parsed(text: str) -> Policy:
    try:
        return policy.parse(text, NAME)
    except BadTiers as error:
        lines = str(error).splitlines()
        violations = [Violation("tiers", line.removeprefix(f"{NAME}: ")) for line in lines]
        raise InvalidRequest(f"These tiers cannot be taken, nothing changed:\n{error}", violations=violations) from None


def _write(path: Path, text: str) -> None:
    """Put a text in the place of a file at once: no reader sees half of it."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            os.fchmod(file.fileno(), _READABLE)
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
