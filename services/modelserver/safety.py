"""What may be drawn and shown: who checks prompts and pictures, and what follows from a verdict.

The built-in check looks for words of a list in prompts (blocklist.py); a model that ships diffusers' own checker flags
pictures in its `Drawing`. What is blocked is never tried again. A blocked prompt costs nothing; of pictures that were
withheld the drawing is charged, and the others are shown.
"""

from __future__ import annotations

import enum
import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from libs.generation.attempt import FailureKind
from services.modelserver.blocklist import BadBlocklist, Blocklist
from services.modelserver.engine.protocol import Pixels
from services.modelserver.events import Failed

logger = logging.getLogger(__name__)

LOOK_EVERY_S = 1.0  # how often at most the list's file is looked at


class Category(enum.Enum):
    """Why something is not allowed."""

    BLOCKLIST = "blocklist"  # a word or phrase of the operator's list
    MODEL_CHECKER = "model_checker"  # the safety checker that the model ships
    CLASSIFIER = "classifier"  # a checker of the operator's own


@dataclass(frozen=True, slots=True)
class Verdict:
    """Allowed unless it has a category."""

    category: Category | None = None

    @property
    def allowed(self) -> bool:
        """Whether nothing speaks against it."""
        return self.category is None


ALLOWED = Verdict()


class Checker(Protocol):
    """Judges what is asked for and what was drawn. It keeps and logs nothing of either."""

    @property
    def policy(self) -> str:
        """Digits that change with what it allows: what was drawn under others answers no request again."""
        ...

    def check_prompt(self, text: str) -> Verdict:
        """Judge a prompt; quick, called on the event loop."""
        ...

    def check_pictures(self, pictures: Sequence[Pixels]) -> tuple[Verdict, ...]:
        """Judge pictures or clips, one verdict each; may block, called from a thread."""
        ...


class Permissive:
    """Allows everything."""

    @property
    def policy(self) -> str:
        """There is none."""
        return ""

    def check_prompt(self, _text: str) -> Verdict:
        """Allow it."""
        return ALLOWED

    def check_pictures(self, pictures: Sequence[Pixels]) -> tuple[Verdict, ...]:
        """Allow them."""
        return (ALLOWED,) * len(pictures)


class PromptFilter(Permissive):
    """Looks for the words of a list file in prompts, and follows the file; pictures are allowed."""

    def __init__(
        self, path: Path, monotonic: Callable[[], float], run: Callable[[Callable[[], None]], None] | None = None
    ) -> None:
        """Read the list; blocks. Raises BadBlocklist. `run` runs the reading of a changed list, in a thread."""
        self._path, self._monotonic, self._run = path, monotonic, run or _in_thread
        self._stamp = _stamp(path)
        self._list = Blocklist.read(path)
        self._looked_s = monotonic()

    @property
    def policy(self) -> str:
        """Return the digest of the list as it is."""
        self._look()
        return self._list.digest

    def check_prompt(self, text: str) -> Verdict:
        """Return BLOCKLIST when a word or phrase of the list stands in it."""
        self._look()
        return Verdict(Category.BLOCKLIST) if self._list.found_in(text) else ALLOWED

    def _look(self) -> None:
        now_s = self._monotonic()
        if now_s - self._looked_s < LOOK_EVERY_S:
            return
        self._looked_s, stamp = now_s, _stamp(self._path)
        if stamp != self._stamp:
            self._stamp = stamp
            self._run(self._read_again)

    def _read_again(self) -> None:
        try:
            self._list = Blocklist.read(self._path)
        except BadBlocklist as error:  # the list before stands: an unreadable one must not open the door
            logger.error("blocklist not read again", extra={"path": str(self._path), "cause": str(error)})
        else:
            logger.info("blocklist read again", extra={"path": str(self._path)})


def open_checker(blocklist: str, monotonic: Callable[[], float]) -> Checker:
    """Return the checker of the settings: the filter when there is a list. Blocks; raises BadBlocklist."""
    return PromptFilter(Path(blocklist), monotonic) if blocklist else Permissive()


def refuse_prompt(verdict: Verdict) -> Failed | None:
    """Return how the attempt ends whose prompt was judged so; None when it may be drawn."""
    if verdict.allowed:
        return None
    told = "The prompt holds something that is not allowed here. Nothing was charged."
    return Failed(FailureKind.BLOCKED, "SAFETY_PROMPT_BLOCKED", told)


@dataclass(frozen=True, slots=True)
class Showing:
    """What of a drawing is shown: indices of pictures, and how the attempt ends when some are withheld."""

    shown: tuple[int, ...]
    failed: Failed | None = None


def show_pictures(
    count: int, flagged: Sequence[bool], verdicts: Sequence[Verdict] = (), *, gpu_ms: float = 0.0
) -> Showing:
    """Return what to show of `count` pictures.

    `flagged` are those that the model's own checker took out, `verdicts` those of a Checker; either may be empty.
    With any picture withheld the attempt has failed, with the others as its pictures.
    """
    withheld = {index for index, bad in enumerate(flagged) if bad}
    withheld |= {index for index, verdict in enumerate(verdicts) if not verdict.allowed}
    shown = tuple(index for index in range(count) if index not in withheld)
    if not withheld:
        return Showing(shown)
    which = f"{len(withheld)} of {count} pictures; the others are listed" if shown else "every picture"
    charged = "The drawing is charged." if gpu_ms else "Nothing was charged."
    told = f"The safety check withheld {which}. {charged} Another seed or prompt may pass."
    return Showing(shown, Failed(FailureKind.BLOCKED, "SAFETY_OUTPUT_BLOCKED", told, gpu_ms))


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _in_thread(work: Callable[[], None]) -> None:
    threading.Thread(target=work, name="blocklist", daemon=True).start()
