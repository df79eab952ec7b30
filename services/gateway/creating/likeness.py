"""Sixty-four bits of a prompt, nearly all of which prompts share that say nearly the same (Charikar's simhash).

Sent to the rate limiter of callers without a key, who tells a machine by its prompts among other things; words are
never sent, and these bits kept by nobody for long. Pure.
"""

from __future__ import annotations

import hashlib
import re
from itertools import pairwise

_BITS = 64
_MOST_WORDS = 128  # of a prompt; the rest changes little
_WORD = re.compile(r"\w+")


def simhash(text: str) -> int:
    """Return the bits; 0 for a text without words."""
    words = _WORD.findall(text.casefold())[:_MOST_WORDS]
    hashes = [_hash(feature) for feature in (*words, *(" ".join(pair) for pair in pairwise(words)))]
    # As text each bit is a column, which is counted at once: a quarter of the time of asking each hash for each bit.
    columns = zip(*(f"{one:0{_BITS}b}" for one in hashes), strict=True)
    bits = "".join("1" if 2 * column.count("1") > len(hashes) else "0" for column in columns)
    return int(bits or "0", 2)


def _hash(feature: str) -> int:
    return int.from_bytes(hashlib.blake2b(feature.encode("utf-8", "replace"), digest_size=_BITS // 8).digest(), "big")
