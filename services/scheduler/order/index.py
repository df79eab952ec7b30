"""Waiting jobs by id: a dictionary that is forked without copying it.

While forks live, changes are kept beside the dictionary that all share. Its first owner brings them in when the
forks are gone, and whoever has changed much takes a copy.
"""

from __future__ import annotations

import weakref

from libs.ids import JobId
from services.scheduler.order.waiting import Entry

_KEPT_BESIDE = 4096  # so many changes cost less than a copy


class Index:
    """Jobs by id."""

    def __init__(self) -> None:
        self._all: dict[JobId, Entry] = {}
        self._changes: dict[JobId, Entry | None] | None = None  # None: nobody shares `_all`
        self._forks: list[weakref.ref[Index]] = []
        self._first = True
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def get(self, job_id: JobId) -> Entry | None:
        """Return a job."""
        if self._changes is not None and job_id in self._changes:
            return self._changes[job_id]
        return self._all.get(job_id)

    def alive(self, entry: Entry) -> bool:
        """Return whether exactly this entry is here."""
        return self.get(entry[2].job_id) is entry

    def put(self, entry: Entry) -> None:
        """Add a job that is not here."""
        self._count += 1
        if self._changes is None:
            self._all[entry[2].job_id] = entry
        else:
            self._changes[entry[2].job_id] = entry
            self._rejoin()

    def pop(self, job_id: JobId) -> Entry | None:
        """Take a job out and return it."""
        entry = self.get(job_id)
        if entry is None:
            return None
        self._count -= 1
        if self._changes is None:
            del self._all[job_id]
        else:
            self._changes[job_id] = None
            self._rejoin()
        return entry

    def fork(self) -> Index:
        """Return one that goes its own way."""
        twin = Index()
        twin._all, twin._changes, twin._first = self._all, dict(self._changes or {}), False
        twin._count = self._count
        self._changes = self._changes if self._changes is not None else {}
        self._forks[:] = [fork for fork in self._forks if fork() is not None]
        self._forks.append(weakref.ref(twin))
        twin._forks = self._forks  # the whole family: a fork's forks share the dictionary, too
        return twin

    def _rejoin(self) -> None:
        """Do without the changes where that is possible."""
        changes = self._changes or {}
        if self._first and not any(fork() is not None for fork in self._forks):
            self._bring_in(changes)
        elif len(changes) > _KEPT_BESIDE and len(changes) > len(self._all) // 2:
            self._all, self._forks, self._first = self._all.copy(), [], True
            self._bring_in(changes)

    def _bring_in(self, changes: dict[JobId, Entry | None]) -> None:
        for job_id, entry in changes.items():
            if entry is None:
                self._all.pop(job_id, None)
            else:
                self._all[job_id] = entry
        self._changes = None
