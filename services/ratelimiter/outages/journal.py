"""What was answered while the ledger was away, on disk until the ledger has heard of it.

One line each, written at once: a process that is killed has lost nothing. A machine that loses power may lose what the
kernel had not written yet; leases then end by themselves, and usage has the charges.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from services.ratelimiter.balances.causes import NOTHING, Cause, Charge
from services.ratelimiter.balances.reservation import Hold, Step

logger = logging.getLogger(__name__)

PART_BYTES = 1 << 20  # some thousand entries


@dataclass(frozen=True, slots=True)
class Entry:
    """A step that was answered at `at_s`; `reserved_s` is when it was reserved, if that is known. Unix seconds.

    `charge` is a settlement's, and `is_first` whether its usage row was written with it.
    """

    step: Step
    hold: Hold
    at_s: float
    reserved_s: float | None = None
    charge: Charge = NOTHING
    is_first: bool = True


@dataclass(frozen=True, slots=True)
class Part:
    """Some entries, and the place in the file up to which they stand, in bytes."""

    entries: list[Entry]
    end: int


class Journal:
    """A file of entries, which is read in parts: a long outage is told without holding up those who ask meanwhile.

    A process that ends between two parts begins again with the first; the ledger knows what it has heard. The file stays
    open from the first entry until all is told, or `close`: in an outage each answer writes one.
    """

    def __init__(self, path: Path, part_bytes: int = PART_BYTES) -> None:
        self._path, self._part_bytes = path, part_bytes
        self._told = 0
        self._descriptor: int | None = None

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits to be told."""
        try:
            return self._path.stat().st_size <= self._told
        except FileNotFoundError:
            return True

    def write(self, entry: Entry) -> None:
        """Append; a disk that refuses is logged, for the answer stands."""
        line = f"\n{_to_json(entry)}\n"  # begins anew: the line before may have been cut off by a crash
        try:
            os.write(self._opened(), line.encode())
        except OSError as error:
            self.close()  # perhaps another one can be written to
            logger.error("an answer is not in the journal", extra={"reason": error.strerror, "step": entry.step.value})

    def read(self) -> Part:
        """Return what is to be told next, oldest first; a line that was cut off is left out."""
        return self._part(self._told)

    def all(self) -> Iterator[Entry]:
        """Return whatever was not told, oldest first."""
        part, begin = self._part(self._told), self._told
        while part.end > begin:
            yield from part.entries
            part, begin = self._part(part.end), part.end

    def drop(self, end: int) -> None:
        """Leave out what lies before a place: the ledger has heard of it."""
        self._told = end
        if end and self.is_empty:
            os.truncate(self._path, 0)
            self._told = 0
            self.close()

    def close(self) -> None:
        """Let go of the file; the next entry opens it again."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def _opened(self) -> int:
        """Return the file, another one when somebody removed it. It appends, so a file made empty begins anew."""
        if self._descriptor is not None and os.fstat(self._descriptor).st_nlink == 0:
            self.close()
        if self._descriptor is None:
            self._descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        return self._descriptor

    def _part(self, begin: int) -> Part:
        try:
            with self._path.open("rb") as file:
                file.seek(begin)
                content = file.read(self._part_bytes) + file.readline()
        except FileNotFoundError:
            return Part([], 0)
        found = (_from_json(line) for line in content.splitlines() if line)
        return Part([entry for entry in found if entry is not None], begin + len(content))


def folded(entries: Iterable[Entry]) -> list[Entry]:
    """Return the step that counts in the end for each reservation; what came before it needs no telling."""
    last: dict[tuple[str, str], Entry] = {}
    for entry in entries:
        place = (entry.hold.tenant_id, entry.hold.reservation_id)
        before = last.get(place)
        if before is not None and entry.step not in _FOLLOWS[before.step]:
            continue
        reserved_s = before.reserved_s if before and entry.reserved_s is None else entry.reserved_s
        last[place] = replace(entry, reserved_s=reserved_s)
    return list(last.values())


_FOLLOWS = {
    Step.RESERVE: (Step.CONFIRM, Step.SETTLE, Step.RELEASE),
    Step.RELEASE: (Step.RESERVE, Step.CONFIRM, Step.SETTLE),
    Step.CONFIRM: (Step.SETTLE,),
    Step.SETTLE: (),
}


def _to_json(entry: Entry) -> str:
    charge = dataclasses.asdict(entry.charge) | {"cause": entry.charge.cause.value}
    written = dataclasses.asdict(entry) | {"step": entry.step.value, "charge": charge}
    return json.dumps(written, separators=(",", ":"))


def _from_json(line: bytes) -> Entry | None:
    try:
        held: dict[str, Any] = json.loads(line)
        charge = Charge(**(held["charge"] | {"cause": Cause(held["charge"]["cause"])}))
        return Entry(**(held | {"step": Step(held["step"]), "hold": Hold(**held["hold"]), "charge": charge}))
    except (ValueError, KeyError, TypeError) as error:
        logger.warning("a line of the journal cannot be read", extra={"reason": str(error)})
        return None
