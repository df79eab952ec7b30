"""What an account may be told of: the kinds of events, one name each in rows, lists and webhooks."""

from __future__ import annotations

from enum import Enum


class EventKind(Enum):
    """Something that happened to an account."""

    USAGE_THRESHOLD = "usage_threshold"  # 50, 80 or 100 % of the images or units of a day are used
    BALANCE_THRESHOLD = "balance_threshold"  # the same of a month's money or its cap
    USAGE_SPIKE = "usage_spike"  # more units today than three times the most of the last seven days
    KEY_IN_NEW_NETWORK = "key_in_new_network"  # a key is suddenly used a lot from where it never was


NAMES = tuple(kind.value for kind in EventKind)
