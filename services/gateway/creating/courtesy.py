"""What is answered to callers without a key whose requests look like a machine's, by the door's score of 0 to 100.

| score | answer |
|---|---|
| below 40 | as to everybody |
| from 40 | the job has half the weight of others of the tier |
| from 60 | a quarter, and the answer says in `x-notice` that a key has limits of its own |
| from 80 | 429 with ABNORMAL_USAGE: one job after the other, half a minute apart |

Nobody is told off, and whoever has a key has no score.
"""

from __future__ import annotations

from libs.errors import LimitExceeded
from libs.rpc import headers
from services.gateway.callers.identity import Caller
from services.gateway.creating import signing_up

_BEHIND, _NUDGED, _SLOWED = 40, 60, 80
_AGAIN_S = 30.0  # after which a score of 100 has fallen below 80 (services/ratelimiter/abuse/score.py)
_NOTICE = "Many requests like yours come from here."


def meet(caller: Caller) -> None:
    """Tell whom it may concern of keys. Raises LimitExceeded for whoever has to wait a little; it takes nothing."""
    if caller.abuse < _NUDGED:
        return
    headers.add([("x-notice", f"{_NOTICE} {signing_up.advice(caller.sign_up)}")])
    if caller.abuse >= _SLOWED:
        raise LimitExceeded(
            f"Requests come from here faster and more evenly than people send them, so they are taken one by one: "
            f"this one in {_AGAIN_S:.0f} s. With a key nothing of this counts. {signing_up.advice(caller.sign_up)} "
            "Nothing was charged.",
            reason="ABNORMAL_USAGE",
            metadata={"dimension": "usage", "reset_ms": f"{_AGAIN_S * 1000:.0f}"},
            retry_after_s=_AGAIN_S,
        )


def weight(caller: Caller) -> float:
    """Return what a caller's jobs weigh beside those of others of the tier, of 1."""
    if caller.abuse < _BEHIND:
        return 1.0
    return 0.5 if caller.abuse < _NUDGED else 0.25
