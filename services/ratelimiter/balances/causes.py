"""Why a job is over, and what follows from that for its tenant. Pure; the units of each cause are the scheduler's.

cause              units                      pictures of the day
succeeded          measured, ≤ 1.5 estimates  counted
cached             none                       given back
joined             none                       counted
withdrawn          none                       given back            cancelled before it drew
cancelled          measured so far            counted
expired            none                       given back
platform           none                       given back            the fault was ours
partly             those of what is finished  those finished
prompt_blocked     none; from the fourth of a day on a little of the minute's budget, never billed
output_blocked     measured                   counted

What its owner brought about – a cancel, a deadline of their own, a second request for the same – is given back of the
minute's budget at most as far as it has not drained since: what drained was paid by waiting, and given back it could be
spent twice.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

FREE_BLOCKS = 3  # of a day
BLOCK_UNITS = 1000.0


class Cause(enum.Enum):
    """Why a job is over; values are the words of the wire."""

    SUCCEEDED = "succeeded"  # its pictures are there
    CACHED = "cached"  # they lay there already
    JOINED = "joined"  # another job drew them
    WITHDRAWN = "withdrawn"  # cancelled before it drew anything
    CANCELLED = "cancelled"  # cancelled while it drew
    EXPIRED = "expired"  # its deadline passed while it waited
    PLATFORM = "platform"  # our fault: memory, a worker, a time limit, a model that does not load
    PARTLY = "partly"  # our fault, but some pictures are there
    PROMPT_BLOCKED = "prompt_blocked"  # the prompt is not allowed
    OUTPUT_BLOCKED = "output_blocked"  # what was drawn is not allowed


class DayRule(enum.Enum):
    """What of the day's pictures stays counted."""

    ALL = "all"  # what was reserved
    FINISHED = "finished"  # what was delivered
    NONE = "none"  # nothing


_DAY_RULES: Mapping[Cause, DayRule] = MappingProxyType(
    {
        Cause.CACHED: DayRule.NONE,
        Cause.WITHDRAWN: DayRule.NONE,
        Cause.EXPIRED: DayRule.NONE,
        Cause.PLATFORM: DayRule.NONE,
        Cause.PARTLY: DayRule.FINISHED,
    }
)
_BY_CLIENT = frozenset({Cause.WITHDRAWN, Cause.CANCELLED, Cause.EXPIRED, Cause.JOINED, Cause.CACHED})


@dataclass(frozen=True, slots=True)
class Charge:
    """What an ended job is charged, why, and the pictures it delivered."""

    units: float = 0.0
    cause: Cause = Cause.SUCCEEDED
    delivered: int = 0

    @property
    def is_by_client(self) -> bool:
        """Whether its owner brought this end about."""
        return self.cause in _BY_CLIENT

    def day_images(self, reserved: int) -> int:
        """Return the pictures that stay counted in the day."""
        rule = _DAY_RULES.get(self.cause, DayRule.ALL)
        if rule is DayRule.FINISHED:
            return min(reserved, self.delivered)
        return reserved if rule is DayRule.ALL else 0


NOTHING = Charge()


def penalty(cause: Cause, blocks_before: int) -> float:
    """Return the units that a refused prompt takes of the minute's budget."""
    return BLOCK_UNITS if cause is Cause.PROMPT_BLOCKED and blocks_before >= FREE_BLOCKS else 0.0
