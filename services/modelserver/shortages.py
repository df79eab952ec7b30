"""Memory that a test takes away, so that real processes meet the lack of it. Pure.

`out_of_memory:WIDTHxHEIGHT:ROWS` – of pictures of that size only so many rows fit into one forward; with `:ATTEMPTS`
behind it only in so many first attempts at a job. Settings take it below pytest and nowhere else.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from services.modelserver.engine.protocol import Request

_FORM = re.compile(r"out_of_memory:(\d+)x(\d+):(\d+)(?::(\d+))?")


@dataclass(frozen=True, slots=True)
class Shortage:
    """`rows` that still fit at one size, in the first `attempts` at a job; None for all."""

    width: int
    height: int
    rows: int
    attempts: int | None = None

    def strikes(self, request: Request, rows: int) -> bool:
        """Whether a forward of so many rows lacks memory."""
        size = (request.spec.width, request.spec.height)
        return size == (self.width, self.height) and rows > self.rows and self._is_early(request.id)

    def _is_early(self, request_id: str) -> bool:
        return self.attempts is None or int(request_id.rpartition("/")[2]) <= self.attempts


def shortages_of(failpoints: Iterable[str]) -> tuple[Shortage, ...]:
    """Read failpoints; raises ValueError naming those that are none."""
    found = {text: _FORM.fullmatch(text) for text in failpoints}
    wrong = [text for text, match in found.items() if match is None]
    if wrong:
        raise ValueError(f"must be out_of_memory:WIDTHxHEIGHT:ROWS or …:ROWS:ATTEMPTS, not {', '.join(wrong)}")
    numbers = [[int(number) for number in match.groups() if number] for match in found.values() if match]
    return tuple(Shortage(*each) for each in numbers)
