"""What can happen next in the fencing model: every step of a leader, a worker and the network."""

from __future__ import annotations

from collections.abc import Iterator

from services.scheduler.job import Failure, JobState
from tests.unit.services.scheduler.fencing_model import (
    ORDERS,
    Leader,
    Message,
    Move,
    Rules,
    Run,
    State,
    View,
    Worker,
    crashed,
    told,
    with_leader,
    with_row,
    with_view,
    with_worker,
    written,
)
from tests.unit.services.scheduler.fencing_rows import ACCEPTED, Row, decided, failed, given_back

MOVED = ("parking", "parked", "resuming")
FOLLOWED = ("follow", "attach", *MOVED)


def moves(state: State, rules: Rules) -> Iterator[Move]:
    """Yield everything that can happen next."""
    for job, row in enumerate(state.rows):
        if row is None:
            yield Move(f"job {job} is accepted", False, with_row(state, job, ACCEPTED))
    for index, leader in enumerate(state.leaders):
        yield from _of_leader(state, rules, index, leader)
    for index, worker in enumerate(state.workers):
        yield from _of_worker(state, index, worker)
    for message in sorted(state.network):
        gone = state._replace(network=state.network - {message})
        for name, after in _arrived(gone, rules, message):
            yield Move(f"{message.kind} {_token(message)} of epoch {message.epoch}: {name}", False, after)
            if state.faults and message.kind in ("execute", "attach"):  # it comes again
                again = after._replace(network=after.network | {message}, faults=state.faults - 1)
                yield Move(f"doubled {message.kind} {_token(message)}: {name}", True, again)


def _of_leader(state: State, rules: Rules, index: int, leader: Leader) -> Iterator[Move]:
    if not leader.alive:
        standby = leader._replace(alive=True)
        yield Move(f"leader {index} restarts", False, with_leader(state, index, standby))
        return
    if leader.epoch == 0:
        yield from _take_lead(state, index, leader)
        return
    if state.faults:
        yield Move(f"leader {index} crashes", True, crashed(state, index)._replace(faults=state.faults - 1))
    for job, view in enumerate(leader.views):
        for name, fault, after in _of_view(state, rules, index, job, view):
            spent = after._replace(faults=state.faults - 1) if fault else after
            yield Move(f"leader {index} (epoch {leader.epoch}) {name} job {job}", fault, spent)


def _take_lead(state: State, index: int, leader: Leader) -> Iterator[Move]:
    contested = any(other.alive and other.epoch == state.epoch for other in state.leaders if other.epoch)
    if contested and not state.faults:
        return
    led = state._replace(epoch=state.epoch + 1, faults=state.faults - contested)
    after = with_leader(led, index, leader._replace(epoch=led.epoch))
    yield Move(f"leader {index} takes the lead", contested, after)


def _of_view(state: State, rules: Rules, index: int, job: int, view: View | None) -> Iterator[tuple[str, bool, State]]:
    row = state.rows[job]
    if row is None:
        return
    what = view.what if view else "unread"
    if view is None or what == "doubt":
        yield from _read(state, rules, index, job, row, in_doubt=view is not None)
    elif what == "waits":
        for worker in range(len(state.workers)):
            yield from _dispatch(state, rules, index, job, worker)
    elif what in ("send", "attach"):
        yield f"sends ({what})", False, _sent(state, index, job, view)
    elif what == "commit":
        yield "commits after it sent", False, _committed(state, rules, index, job, view.worker)
    elif what == "follow":
        gone = state.workers[view.worker].life != view.life
        if gone or state.faults:
            yield "gives up the attempt of", not gone, _lost(state, rules, index, job, view)
        if state.faults and not gone:
            yield "attaches again to", True, with_view(state, index, job, view._replace(what="attach"))
            yield "parks", True, _asked(state, index, job, view, "park")
    elif what in MOVED:
        if state.workers[view.worker].life != view.life:
            yield "gives up the attempt of", False, _lost(state, rules, index, job, view)
        elif what == "parked":
            yield "has go on", False, _asked(state, index, job, view, "resume")


def _read(
    state: State, rules: Rules, index: int, job: int, row: Row, *, in_doubt: bool
) -> Iterator[tuple[str, bool, State]]:
    if row.state is JobState.QUEUED:
        yield "reads", False, with_view(state, index, job, View("waits", row.attempt))
    elif row.state is not JobState.RUNNING:
        yield "reads", False, with_view(state, index, job, View("over"))
    elif in_doubt:  # its own start, whose answer was lost: it was never sent
        yield "takes back", False, _requeued(state, rules, index, job, row.attempt, counted=False)
    else:
        yield "reads", False, with_view(state, index, job, View("attach", row.attempt, int(row.worker)))


def _dispatch(state: State, rules: Rules, index: int, job: int, worker: int) -> Iterator[tuple[str, bool, State]]:
    row, view = state.rows[job], state.leaders[index].views[job]
    assert row is not None
    assert view is not None
    if rules.sends_first():
        sent = _sent(state, index, job, View("send", view.attempt + 1, worker))
        yield f"sends first, to worker {worker},", False, with_view(sent, index, job, View("commit", 0, worker))
        return
    after = _committed(state, rules, index, job, worker)
    yield f"starts, on worker {worker},", False, after
    if state.faults and after.rows[job] != row:
        yield f"starts, without an answer, on worker {worker},", True, with_view(after, index, job, View("doubt"))


def _committed(state: State, rules: Rules, index: int, job: int, worker: int) -> State:
    epoch, row, view = state.leaders[index].epoch, state.rows[job], state.leaders[index].views[job]
    assert row is not None
    assert view is not None
    if rules.start_is_fenced() and rules.fenced(state, epoch):
        return crashed(state, index)
    started = rules.start(epoch, row, worker) if view.what == "commit" or view.attempt == row.attempt else None
    if started is None:
        return with_view(state, index, job, None)
    attempt, life = started.attempt, state.workers[worker].life
    following = View("send" if view.what == "waits" else "follow", attempt, worker, life)
    return with_view(written(state, job, started, epoch), index, job, following)


def _sent(state: State, index: int, job: int, view: View) -> State:
    life = state.workers[view.worker].life
    kind = "execute" if view.what == "send" else "attach"
    message = Message(kind, (view.worker, life), job, view.attempt, state.leaders[index].epoch)
    after = state._replace(network=state.network | {message})
    return with_view(after, index, job, View("follow", view.attempt, view.worker, life))


def _asked(state: State, index: int, job: int, view: View, kind: str) -> State:
    """It asks for the next move only when the last was answered; who takes over attaches, and has go on what is parked."""
    message = Message(kind, (view.worker, view.life), job, view.attempt, state.leaders[index].epoch)
    after = state._replace(network=state.network | {message})
    return with_view(after, index, job, view._replace(what=f"{kind.removesuffix('e')}ing"))


def _lost(state: State, rules: Rules, index: int, job: int, view: View) -> State:
    row = state.rows[job]
    assert row is not None
    decision = decided(row.counted)
    if isinstance(decision, Failure):
        if rules.fenced(state, state.leaders[index].epoch):
            return crashed(state, index)
        dead = failed(row, view.attempt)
        after = written(state, job, dead, state.leaders[index].epoch) if dead else state
        return with_view(after, index, job, None)
    return _requeued(state, rules, index, job, view.attempt, counted=True)


def _requeued(state: State, rules: Rules, index: int, job: int, attempt: int, *, counted: bool) -> State:
    epoch, row = state.leaders[index].epoch, state.rows[job]
    assert row is not None
    if rules.fenced(state, epoch):
        return crashed(state, index)
    waiting = given_back(row, attempt, counted)
    after = written(state, job, waiting, epoch) if waiting else state
    return with_view(after, index, job, None)


def _of_worker(state: State, index: int, worker: Worker) -> Iterator[Move]:
    for run in sorted(worker.runs):
        if not run.done and not run.parked:
            done = worker._replace(runs=worker.runs - {run} | {run._replace(done=True)})
            after = told(with_worker(state, index, done), "done", run.listener, run.job, run.attempt)
            yield Move(f"worker {index} finishes attempt {run.attempt} of job {run.job}", False, after)
    if state.faults and worker.life < 2:
        reborn = Worker(worker.life + 1, 0, frozenset())
        kept = frozenset(m for m in state.network if m.kind not in ORDERS or m.to[0] != index)
        after = with_worker(state, index, reborn)._replace(network=kept, faults=state.faults - 1)
        yield Move(f"worker {index} crashes and comes back", True, after)


def _arrived(state: State, rules: Rules, message: Message) -> Iterator[tuple[str, State]]:
    if message.kind in ("execute", "attach"):
        yield f"worker {message.to[0]} takes it", _ordered(state, rules, message)
        return
    if message.kind in ORDERS:
        yield f"worker {message.to[0]} does it", _moved(state, rules, message)
        return
    for index, leader in enumerate(state.leaders):
        if leader.alive and leader.epoch == message.epoch:
            yield f"leader {index} hears it", _heard(state, rules, index, message)


def _ordered(state: State, rules: Rules, message: Message) -> State:
    index = message.to[0]
    worker, job, attempt, epoch = state.workers[index], message.job, message.attempt, message.epoch
    if not rules.takes(worker, message):
        return told(state, "stale", epoch, job, attempt)
    heard = worker._replace(heard=max(worker.heard, epoch))
    known = rules.knows(worker, message)
    if known is None and (message.kind == "attach" or rules.outdated(worker, message)):
        after = with_worker(state, index, heard)
        return told(after, "unknown", epoch, job, attempt) if rules.says_unknown() else after
    if known is None:
        return _begun(with_worker(state, index, heard), index, message, late=epoch < worker.heard)
    listening = heard._replace(runs=heard.runs - {known} | {known._replace(listener=epoch, parked=False)})
    after = with_worker(state, index, listening)
    return told(after, "done", epoch, job, attempt) if known.done else after


def _moved(state: State, rules: Rules, message: Message) -> State:
    """A worker parks or resumes what it runs, and says so to the leader that asked, if that still leads there."""
    index, job = message.to[0], message.job
    worker = state.workers[index]
    if not rules.heeds(worker, message):
        return told(state, "stale", message.epoch, job, message.attempt)
    run = rules.knows(worker, message)
    parked = message.kind == "park" and run is not None and not run.done
    heard = worker._replace(heard=max(worker.heard, message.epoch))
    if run is not None:
        heard = heard._replace(runs=heard.runs - {run} | {run._replace(parked=parked)})
    after = with_worker(state, index, heard)
    for number, leader in enumerate(state.leaders):
        view = leader.views[job]
        if leader.epoch == message.epoch and view is not None and view.what in ("parking", "resuming"):
            after = with_view(after, number, job, view._replace(what="parked" if parked else "follow"))
    return after


def _begun(state: State, index: int, message: Message, *, late: bool) -> State:
    worker, token = state.workers[index], (message.job, message.attempt)
    older = {run for run in worker.runs if run.job == message.job and run.attempt < message.attempt and not run.done}
    copy = sum((run.job, run.attempt) == token for run in worker.runs)
    run = Run(message.job, message.attempt, copy, False, message.epoch)
    after = with_worker(state, index, worker._replace(runs=worker.runs - older | {run}))
    wrong = after.wrong
    if any(known.job == message.job and known.attempt > message.attempt for known in worker.runs):
        wrong = "a worker began an attempt beside the newer one at the same job"
    if late:
        wrong = "a worker began what a deposed leader sent, after it had heard the newer one"
    if token in state.begun:
        wrong = "one attempt was begun twice"
    return after._replace(begun=state.begun | {token}, wrong=wrong)


def _heard(state: State, rules: Rules, index: int, message: Message) -> State:
    job, attempt = message.job, message.attempt
    view, row = state.leaders[index].views[job], state.rows[job]
    assert row is not None
    if message.kind == "stale":
        return crashed(state, index)
    follows = view is not None and view.what in FOLLOWED and view.attempt == attempt
    if message.kind == "unknown":
        return _requeued(state, rules, index, job, attempt, counted=False) if follows else state
    if rules.fenced(state, message.epoch):
        return crashed(state, index)
    final = rules.end(row, attempt)
    if final is None:
        return with_view(state, index, job, None) if follows else state
    return with_view(written(state, job, final, message.epoch), index, job, View("over"))


def _token(message: Message) -> str:
    return f"{message.job}/{message.attempt}"
