"""How few loads a trace needs in whatever order its queued jobs are served, by a rule that knows what comes.

A job of a model in memory goes first, else the model comes that most queued jobs wait for, and those leave that no
queued job needs, the one first that is asked for last. Nobody minds how long a job waits. It is a rule of thumb and no
optimum: what it needs can be had, and perhaps less.
"""

from __future__ import annotations

from collections import Counter

from tests.bench.model_traces import Trace

QUEUED = 20


def any_order(trace: Trace) -> int:
    """Return its loads."""
    models = [arrival.model for arrival in trace.arrivals]
    waiting, here, loads = Counter(models[:QUEUED]), set[str](), 0
    came = min(QUEUED, len(models))
    while waiting:
        ready = [model for model in waiting if model in here]
        if not ready:
            wanted = max(waiting, key=lambda model: (waiting[model], model))
            _make_room(trace, here, wanted, waiting, models[came:])
            here.add(wanted)
            loads += 1
            ready = [wanted]
        waiting -= Counter(ready[:1])
        if came < len(models):
            waiting[models[came]] += 1
            came += 1
    return loads


def _make_room(trace: Trace, here: set[str], wanted: str, waiting: Counter[str], to_come: list[str]) -> None:
    room = trace.budget_bytes - trace.bytes_of[wanted]
    next_uses = {model: to_come.index(model) if model in to_come else len(to_come) for model in here}
    for model in sorted(here, key=lambda model: (waiting[model], -next_uses[model])):
        if sum(trace.bytes_of[each] for each in here) > room:
            here.remove(model)
