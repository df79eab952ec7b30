"""The fencing protocol as a small model: leaders, workers, a slow network, and what may go wrong, a few times.

The store's rules are the real ones (services.scheduler.storage.changes and retry, behind the fence of store.py); leaders,
workers and the network are as small as their promises allow. Messages wait as long as they like and arrive in any
order, and a leader that takes no step is one that is paused, so delay, reordering and SIGSTOP cost nothing; what costs
one of the `faults` of a state is a crash, a doubled message, a broken stream, a false suspicion, a lost answer of the
store, a lead taken from a living leader and a request to park. A leader keeps no lease here: it goes on until it is
deposed, however long etcd is away.
"""

from __future__ import annotations

from typing import NamedTuple

from tests.unit.services.scheduler.fencing_rows import Row, started, succeeded

ORDERS = ("execute", "attach", "park", "resume")


class View(NamedTuple):
    """What a leader believes of a job: it waits, is to be sent, to be attached to, followed, or to be read again.

    What it follows may be on its way off the device (parking), off it (parked) or on its way back (resuming).
    """

    what: str
    attempt: int = 0
    worker: int = -1
    life: int = 0


class Leader(NamedTuple):
    """A scheduler; epoch 0: it stands by."""

    alive: bool
    epoch: int
    views: tuple[View | None, ...]


class Run(NamedTuple):
    """An attempt on a worker, and the epoch of the leader that hears of it. One that is parked does not finish."""

    job: int
    attempt: int
    copy: int
    done: bool
    listener: int
    parked: bool = False


class Worker(NamedTuple):
    """A model server; `life` is its incarnation, `heard` the highest epoch it knows."""

    life: int
    heard: int
    runs: frozenset[Run]


class Message(NamedTuple):
    """ORDERS go to (worker, life), `done`, `unknown` and `stale` to an epoch."""

    kind: str
    to: tuple[int, int]
    job: int
    attempt: int
    epoch: int


class State(NamedTuple):
    """Everything, at one moment. `wrong` says what must never happen and did."""

    epoch: int
    rows: tuple[Row | None, ...]
    leaders: tuple[Leader, ...]
    workers: tuple[Worker, ...]
    network: frozenset[Message]
    begun: frozenset[tuple[int, int]]
    faults: int
    wrong: str = ""


class Move(NamedTuple):
    """One step of somebody; `fault`: it used up one."""

    name: str
    fault: bool
    after: State


class Rules:
    """The protocol. The broken variants each change one method of it."""

    def fenced(self, state: State, epoch: int) -> bool:
        """Return whether a write of the leader with this epoch is refused."""
        return epoch != state.epoch

    def start(self, epoch: int, row: Row, worker: int) -> Row | None:
        """Return the row with its next attempt."""
        return started(row, row.attempt + 1, worker, epoch)

    def end(self, row: Row, attempt: int) -> Row | None:
        """Return the row with the result of an attempt."""
        return succeeded(row, attempt)

    def start_is_fenced(self) -> bool:
        """Whether `start` looks at the epoch."""
        return True

    def sends_first(self) -> bool:
        """Whether an attempt is sent before it is committed."""
        return False

    def takes(self, worker: Worker, message: Message) -> bool:
        """Return whether a worker obeys a leader."""
        return message.epoch >= worker.heard

    def heeds(self, worker: Worker, message: Message) -> bool:
        """Return whether a worker parks and resumes for a leader."""
        return message.epoch >= worker.heard

    def knows(self, worker: Worker, message: Message) -> Run | None:
        """Return the run of a token."""
        return next((run for run in worker.runs if (run.job, run.attempt) == (message.job, message.attempt)), None)

    def says_unknown(self) -> bool:
        """Whether a worker that is to go on with what it does not know says so."""
        return True

    def outdated(self, worker: Worker, message: Message) -> bool:
        """Return whether a worker knows a newer attempt at the job."""
        return any(run.job == message.job and run.attempt > message.attempt for run in worker.runs)


def first_state(jobs: int, faults: int) -> State:
    """Return the state before anything happened: nobody leads, no job is accepted."""
    return State(
        epoch=0,
        rows=(None,) * jobs,
        leaders=(Leader(True, 0, (None,) * jobs),) * 2,
        workers=(Worker(0, 0, frozenset()),) * 2,
        network=frozenset(),
        begun=frozenset(),
        faults=faults,
    )


def ended(state: State) -> bool:
    """Return whether every job is in a final state."""
    return all(row is not None and row.ends for row in state.rows)


def crashed(state: State, index: int) -> State:
    epoch, jobs = state.leaders[index].epoch, len(state.rows)
    heard = frozenset(m for m in state.network if m.kind in ORDERS or m.epoch != epoch)
    return with_leader(state._replace(network=heard), index, Leader(False, 0, (None,) * jobs))


def told(state: State, kind: str, epoch: int, job: int, attempt: int) -> State:
    if not any(leader.epoch == epoch for leader in state.leaders):
        return state  # nobody is there to hear it; the worker keeps it for who attaches
    return state._replace(network=state.network | {Message(kind, (-1, epoch), job, attempt, epoch)})


def written(state: State, job: int, row: Row, epoch: int) -> State:
    wrong = state.wrong or ("a deposed leader wrote after the newer one took over" if epoch < state.epoch else "")
    if row.ends > 1:
        wrong = "a job ended twice"
    elif row.result_of and row.result_of != row.attempt:
        wrong = "a job has the result of an attempt that was given up"
    return with_row(state, job, row)._replace(wrong=wrong)


def with_row(state: State, job: int, row: Row) -> State:
    return state._replace(rows=(*state.rows[:job], row, *state.rows[job + 1 :]))


def with_leader(state: State, index: int, leader: Leader) -> State:
    return state._replace(leaders=(*state.leaders[:index], leader, *state.leaders[index + 1 :]))


def with_worker(state: State, index: int, worker: Worker) -> State:
    return state._replace(workers=(*state.workers[:index], worker, *state.workers[index + 1 :]))


def with_view(state: State, index: int, job: int, view: View | None) -> State:
    leader = state.leaders[index]
    if not leader.alive:
        return state
    return with_leader(state, index, leader._replace(views=(*leader.views[:job], view, *leader.views[job + 1 :])))
