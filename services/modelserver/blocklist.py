"""Words and phrases that a prompt must not hold: one a line in a file, `#` begins a comment.

They are found as whole words, whatever the case, accents, width or invisible characters, with digits and signs in the
place of letters (`4` for a, `$` for s), with letters of another alphabet that look the same, or s p e l l e d out. In
scripts that put no spaces between words an entry is found anywhere.

The text of a prompt is never kept, logged or returned.
"""

from __future__ import annotations

import hashlib
import itertools
import re
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path

_MOST_BYTES = 2**20
_LONGEST = 200  # characters of an entry
_MOST_SHOWN = 5  # problems told at once
_WORD = re.compile(r"[^\W_]+")
_SIGNS = "@$!|+€¡"
_SIGNED_WORD = re.compile(rf"(?:[^\W_]|[{re.escape(_SIGNS)}])+")
_BETWEEN_WORDS = re.compile(r"[\s\-'’.]*")
_WITHOUT_SPACES = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
# Marks above and below letters, and what chooses a variant of one. Marks of other scripts are part of their words.
_MARKS = re.compile("[\u0300-\u036f\u180b-\u180d\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe00-\ufe0f\ufe20-\ufe2f]")
_FILLERS = frozenset("\u115f\u1160\u3164\uffa0")  # letters without a shape
_BARE = str.maketrans({"ø": "o", "ł": "l", "đ": "d", "ħ": "h", "ı": "i", "æ": "ae", "œ": "oe", "þ": "th"})
_LOOKALIKES = str.maketrans("авеікмнорстухѕјԁһαεικνορτυχ", "abeikmhopctyxsjdhaeikvoptux")
_LEET = str.maketrans("023456789@$+€¡", "ozeasgtbgastei")
_EITHER = "1!|"  # i or l
_MOST_EITHER = 4  # of them in a word; with more they are all read the same


class BadBlocklist(Exception):
    """A list that cannot be used; the message names lines and never what stands in them."""


class Blocklist:
    """Entries, ready to be looked for."""

    def __init__(self, entries: Iterable[str]) -> None:
        """Take entries that `entries_of` has checked."""
        self._phrases: dict[str, list[tuple[str, ...]]] = {}  # first word → the words that follow it
        self._anywhere: list[str] = []
        entries = sorted(entries)
        self.digest = hashlib.sha256("\n".join(entries).encode()).hexdigest()  # the same for the same entries
        for entry in entries:
            folded = fold(entry)
            first, *rest = _WORD.findall(folded)
            if _WITHOUT_SPACES.search(folded):
                self._anywhere.append(folded)
            else:
                self._phrases.setdefault(first, []).append(tuple(rest))

    @classmethod
    def read(cls, path: Path) -> Blocklist:
        """Read a file; blocks. Raises BadBlocklist naming every bad line."""
        return cls(entries_of(path))

    def found_in(self, text: str) -> bool:
        """Return whether any entry stands in the text."""
        folded = fold(text)
        if any(entry in folded for entry in self._anywhere):
            return True
        tellings = [_WORD.findall(folded)]
        if any(sign in folded for sign in _SIGNS):
            tellings.append(_SIGNED_WORD.findall(folded))
        return any(self._among(words) or self._among(list(_spelled_out(words))) for words in tellings)

    def _among(self, words: list[str]) -> bool:
        readings = [_readings(word) for word in words]
        return any(
            all(word in reading for word, reading in zip(rest, readings[place + 1 :], strict=False))
            for place, readable in enumerate(readings)
            for word in readable
            for rest in self._phrases.get(word, ())
            if len(rest) < len(readings) - place
        )


def entries_of(path: Path) -> list[str]:
    """Return the entries of a file, checked; blocks. Raises BadBlocklist naming every bad line."""
    try:
        content = path.read_bytes()
        lines = content.decode("utf-8-sig").splitlines()
    except OSError as error:
        raise BadBlocklist(f"it cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise BadBlocklist(f"it is not UTF-8 at byte {error.start}") from None
    if len(content) > _MOST_BYTES:
        raise BadBlocklist(f"it has {len(content)} bytes of at most {_MOST_BYTES}")
    numbered = [(number, re.split(r"(?:^|\s)#", line, maxsplit=1)[0].strip()) for number, line in enumerate(lines, 1)]
    entries = [(number, entry) for number, entry in numbered if entry]
    problems = [f"line {number} {problem}" for number, entry in entries if (problem := _problem(entry))]
    if problems:
        more = f"; and {len(problems) - _MOST_SHOWN} more" if len(problems) > _MOST_SHOWN else ""
        raise BadBlocklist("; ".join(problems[:_MOST_SHOWN]) + more)
    return [entry for _, entry in entries]


def fold(text: str) -> str:
    """Return the text without case, accents, width and invisible characters."""
    plain = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", text).casefold())
    seen = (char for char in plain if unicodedata.category(char) != "Cf" and char not in _FILLERS)
    return unicodedata.normalize("NFC", _MARKS.sub("", "".join(seen))).translate(_BARE)


def _problem(entry: str) -> str:
    folded = fold(entry)
    words = _WORD.findall(folded)
    if len(entry) > _LONGEST:
        return f"has {len(entry)} characters of at most {_LONGEST}"
    if not words:
        return "holds no letter and no digit"
    if any(not _BETWEEN_WORDS.fullmatch(gap) for gap in _WORD.split(folded)):
        return "holds a sign; write plain letters, those that look like them are found too"
    if len("".join(words)) == 1 and not _WITHOUT_SPACES.search(folded):
        return "is a single character, which would stop nearly everything"
    return ""


def _readings(word: str) -> set[str]:
    """Return what a word can be read as, itself among them."""
    forms = {word, word.rstrip("!|+"), word.strip(_SIGNS)}
    if any(char.isascii() and char.isalpha() for char in word):
        forms |= {form.translate(_LOOKALIKES) for form in forms}
        forms |= {reading for form in forms for reading in _without_leet(form.translate(_LEET))}
    return forms


def _without_leet(word: str) -> Iterator[str]:
    places = [place for place, char in enumerate(word) if char in _EITHER]
    choices: Iterable[tuple[str, ...]] = itertools.product("il", repeat=len(places))
    if len(places) > _MOST_EITHER:
        choices = [("i",) * len(places), ("l",) * len(places)]
    for choice in choices:
        letters = list(word)
        for place, letter in zip(places, choice, strict=True):
            letters[place] = letter
        yield "".join(letters)


def _spelled_out(words: list[str]) -> Iterator[str]:
    """Return the words that runs of three and more single characters make."""
    for single, run in itertools.groupby(words, key=lambda word: len(word) == 1):
        letters = list(run)
        if single and len(letters) > 2:
            yield "".join(letters)
