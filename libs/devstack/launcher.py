"""Runs before each child's own program, in its process: ties the child's life to its supervisor's, then execs.

    python -I -S launcher.py PARENT_PID DEATH_SIGNAL NICENESS PROGRAM ARG…

A program of its own and not a `preexec_fn`, because the supervisor has threads (gRPC), and Python code between
fork and exec of a process with threads may deadlock. It imports the standard library only.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
_CANNOT_EXECUTE = 127


def command(argv: tuple[str, ...], death_signal: signal.Signals, niceness: int = 0) -> tuple[str, ...]:
    """Return the command line that runs `argv` so that it gets `death_signal` when the calling thread's process ends.

    The kernel ties it to the thread that spawns, so spawn from the main thread.
    """
    return (sys.executable, "-I", "-S", __file__, str(os.getpid()), str(int(death_signal)), str(niceness), *argv)


def main(parent_pid: int, death_signal: int, niceness: int, argv: list[str]) -> None:
    """Become `argv`; returns only when that cannot be executed."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, death_signal, 0, 0, 0)
    if os.getppid() != parent_pid:  # it ended before the line above could tie us to it
        return
    os.nice(niceness)
    for ignored_by_python in (signal.SIGPIPE, signal.SIGXFSZ):  # what is ignored stays ignored over exec
        signal.signal(ignored_by_python, signal.SIG_DFL)
    try:
        os.execvp(argv[0], argv)  # noqa: S606 - no shell is the point
    except OSError as error:
        print(f"cannot run {argv[0]}: {error.strerror}", file=sys.stderr)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:])
    sys.exit(_CANNOT_EXECUTE)
