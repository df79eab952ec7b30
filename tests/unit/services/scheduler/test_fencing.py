"""The fencing protocol holds in every state that can be reached, and the search would see it if it did not."""

from __future__ import annotations

from services.scheduler.job import JobState
from tests.unit.services.scheduler.fencing_model import Message, Rules, Run, State, Worker
from tests.unit.services.scheduler.fencing_rows import Row, succeeded
from tests.unit.services.scheduler.fencing_search import Found, explore


def test_one_job_survives_two_faults() -> None:
    found = explore(Rules(), jobs=1, faults=2)
    assert not found.wrong, found.told()
    assert found.states > 10_000


def test_two_jobs_survive_a_fault() -> None:
    found = explore(Rules(), jobs=2, faults=1)
    assert not found.wrong, found.told()
    assert found.states > 10_000


class EndsByJob(Rules):
    """A result counts for its job whatever became of the attempt."""

    def end(self, row: Row, attempt: int) -> Row | None:
        late = succeeded(row._replace(state=JobState.RUNNING, attempt=attempt), attempt)
        return late._replace(attempt=row.attempt) if late else None


class EndsByState(Rules):
    """A result counts while the job runs, whichever attempt it is that runs."""

    def end(self, row: Row, attempt: int) -> Row | None:
        late = succeeded(row, row.attempt)
        return late._replace(result_of=attempt) if late else None


class HearsEverybody(Rules):
    """A worker does what any leader says."""

    def takes(self, worker: Worker, message: Message) -> bool:
        return True


class ParksForEverybody(Rules):
    """A worker parks and resumes for any leader."""

    def heeds(self, worker: Worker, message: Message) -> bool:
        return True


class SendsFirst(Rules):
    """An attempt is committed only after it was sent."""

    def sends_first(self) -> bool:
        return True


class StartsUnfenced(Rules):
    """A leader starts attempts without a look at the epoch."""

    def start_is_fenced(self) -> bool:
        return False


class Unfenced(Rules):
    """No write looks at the epoch but for the attempt."""

    def fenced(self, state: State, epoch: int) -> bool:
        return False


class Forgetful(Rules):
    """A worker begins whatever it is sent, as often as it is sent it."""

    def knows(self, worker: Worker, message: Message) -> Run | None:
        return None


class TakesOlder(Rules):
    """A worker begins an attempt although it has a newer one at the job."""

    def outdated(self, worker: Worker, message: Message) -> bool:
        return False


class Mute(Rules):
    """A worker that does not know an attempt does not say so."""

    def says_unknown(self) -> bool:
        return False


def test_results_by_job_alone_are_caught() -> None:
    _caught(explore(EndsByJob(), jobs=1, faults=2), "a job ended twice", "a job has the result of an attempt")


def test_results_by_state_alone_are_caught() -> None:
    _caught(explore(EndsByState(), jobs=1, faults=2), "a job has the result of an attempt that was given up")


def test_workers_that_hear_deposed_leaders_are_caught() -> None:
    _caught(explore(HearsEverybody(), jobs=1, faults=3), "a worker began what a deposed leader sent")


def test_workers_that_park_for_deposed_leaders_are_caught() -> None:
    _caught(explore(ParksForEverybody(), jobs=1, faults=2), "a job can never end")


def test_attempts_that_are_sent_before_they_are_committed_are_caught() -> None:
    _caught(explore(SendsFirst(), jobs=1, faults=2), "one attempt was begun twice")


def test_starts_without_a_fence_are_caught() -> None:
    _caught(explore(StartsUnfenced(), jobs=1, faults=2), "a deposed leader wrote")


def test_writes_without_a_fence_are_caught() -> None:
    _caught(explore(Unfenced(), jobs=1, faults=2), "a deposed leader wrote")


def test_workers_that_do_not_know_their_attempts_are_caught() -> None:
    _caught(explore(Forgetful(), jobs=1, faults=2), "one attempt was begun twice")


def test_late_orders_of_older_attempts_are_caught() -> None:
    _caught(explore(TakesOlder(), jobs=1, faults=1), "a worker began an attempt beside the newer one")


def test_jobs_that_would_wait_for_ever_are_caught() -> None:
    _caught(explore(Mute(), jobs=1, faults=1), "a job can never end")


def _caught(found: Found, *expected: str) -> None:
    assert found.wrong.startswith(expected), found.told()
