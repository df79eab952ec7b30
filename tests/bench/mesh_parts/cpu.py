"""Seconds of CPU that the processes under this one have used, by part."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


def used_s(known: Mapping[int, str]) -> dict[str, float]:
    """Return the seconds of this process (`load`) and of all under it: by `known` name of a process id, else by program.

    Processes that have ended are not counted.
    """
    parents, names, seconds = {}, {}, {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            stat = (entry / "stat").read_text()
        except OSError:  # it has ended
            continue
        name, fields = stat[stat.index("(") + 1 : stat.rindex(")")], stat[stat.rindex(")") + 2 :].split()
        pid = int(entry.name)
        parents[pid], names[pid] = int(fields[1]), name
        seconds[pid] = (int(fields[11]) + int(fields[12])) / _TICKS
    found: dict[str, float] = defaultdict(float)
    for pid, used in seconds.items():
        part = _part(pid, parents, names, known)
        if part:
            found[part] += used
    return dict(found)


def _part(pid: int, parents: Mapping[int, int], names: Mapping[int, str], known: Mapping[int, str]) -> str:
    me, above = os.getpid(), pid
    if pid == me:
        return "load"
    while above not in (me, 0, 1):
        if above in known:
            return known[above]
        above = parents.get(above, 0)
    return names[pid] if above == me else ""
