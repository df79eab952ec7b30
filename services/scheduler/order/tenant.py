"""One tenant of a tier: its queues by model, and what it was given."""

from __future__ import annotations

from collections.abc import Container

from services.scheduler.order.account import Account
from services.scheduler.order.queue import Queue
from services.scheduler.order.waiting import Entry, rank


class Tenant:
    """`owner` is whoever may change it, others copy it first."""

    __slots__ = ("account", "lined", "most", "on_devices", "overtaken", "owner", "queues", "running", "units")

    def __init__(self, owner: object) -> None:
        self.owner = owner
        self.account = Account()
        self.queues: dict[str, Queue] = {}  # by model version; none is empty
        self.lined = 0  # jobs of models that somebody can run
        self.units = 0.0  # of them
        self.running = 0  # jobs that are charged by estimate
        self.on_devices = 0  # pictures of the jobs that run
        self.most: int | None = None  # as many of them may be there before the others wait
        self.overtaken = 0.0  # units of its own jobs that went before its first one

    def copy(self, owner: object) -> Tenant:
        """Return one that goes its own way; the queues are still shared."""
        twin = Tenant(owner)
        twin.account = self.account.copy()
        twin.queues = self.queues.copy()
        twin.lined, twin.running, twin.overtaken = self.lined, self.running, self.overtaken
        twin.units, twin.on_devices, twin.most = self.units, self.on_devices, self.most
        return twin

    @property
    def full(self) -> bool:
        """Whether all its pictures that may run do, so that no other job of it is next, whatever it is owed."""
        return self.most is not None and self.on_devices >= self.most

    def own(self, model: str) -> Queue:
        """Return a queue to change; a new one when it has none of this model."""
        queue = self.queues.get(model)
        if queue is None:
            queue = self.queues[model] = Queue(self.owner)
        elif queue.owner is not self.owner:
            queue = self.queues[model] = queue.copy(self.owner)
        return queue

    def count(self, jobs: int, units: float) -> None:
        """Count jobs in the lines, or with negative numbers no longer."""
        self.lined += jobs
        self.units = self.units + units if self.lined else 0.0

    def first(self, models: Container[str]) -> Entry:
        """Return its best job of these models; there must be one."""
        return min((queue.first() for model, queue in self.queues.items() if model in models), key=rank)

    def oldest(self, models: Container[str]) -> Entry:
        """Return its job of these models that waits longest; there must be one."""
        return min(queue.oldest() for model, queue in self.queues.items() if model in models)
