"""What can go wrong with etcd. None of these reaches a caller outside: loops retry, and say so in the log.

libs.errors.Unavailable
└── CoordinationError
    ├── CoordinationUnavailable   no member answered in time
    ├── CoordinationRefused       etcd answered and said no (credentials, a malformed request)
    ├── LeaseGone                 the lease is expired, revoked or unknown
    └── HistoryGone               the events asked for are compacted, or the store is an older one: list anew
"""

from __future__ import annotations

from libs.errors import Unavailable


class CoordinationError(Unavailable):
    """Any failure of the coordination store."""


class CoordinationUnavailable(CoordinationError):
    """No member answered in time; whether a write happened is unknown."""


class CoordinationRefused(CoordinationError):
    """The store answered and refused."""


class LeaseGone(CoordinationError):
    """The lease is expired, revoked or unknown."""


class HistoryGone(CoordinationError):
    """A watch cannot go on from its last event and must list anew."""
