"""What the job store promises for deliveries of webhooks.

A delivery is committed with its event, one an event, and is named by the two. `due_at` says when it may be claimed:
a claim moves it to the end of the lease, so that a claimer that dies leaves it due again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from libs.ids import JobId, TenantId
from libs.webhooks.shares import Claim
from libs.webhooks.tries import Fate, Told
from services.scheduler.job import JobState


@dataclass(frozen=True, slots=True)
class Delivery:
    """An event that somebody is to be told of. Times in Unix seconds."""

    job_id: JobId
    seq: int
    tenant_id: TenantId
    url: str
    host: str
    kind: str
    time: float
    state: JobState  # of the job after the event
    model: str
    model_version: str
    labels: Mapping[str, str] = field(default_factory=dict)
    error_reason: str = ""
    image_index: int | None = None
    tries: int = 0  # claims so far that were not given back
    due_at: float | None = None  # when it may be claimed; None: it is over
    fate: Fate = Fate.WAITING
    status: int = 0  # HTTP status of the latest try that was answered
    reason: str = ""  # why the latest try failed


@dataclass(frozen=True, slots=True)
class Report:
    """What came of try number `tries`. `roll`, from 0 to 1, spreads the next try."""

    job_id: JobId
    seq: int
    tries: int
    told: Told
    now: float
    roll: float
    status: int = 0
    reason: str = ""
    retry_after_s: float = 0.0


class DeliveryStore(Protocol):
    """The part of the job store that webhooks are delivered from. Any replica may use it, whoever leads."""

    async def claim_deliveries(self, claim: Claim) -> list[Delivery]:
        """Lease deliveries that are due, the longest due first within the shares; no two claimers get the same one."""
        ...

    async def report_delivery(self, report: Report) -> Delivery | None:
        """Note what came of a try and return the delivery as it is then.

        One that is gone takes those that wait for the same job with it, and what happens to that job later is not
        told. None when it changes nothing: it is over, its job is deleted, or it failed and was claimed again since.
        """
        ...

    async def deliveries_waiting(self, most: int) -> int:
        """Return how many are not over; `most` when there are more."""
        ...
