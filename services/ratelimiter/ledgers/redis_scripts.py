"""What runs inside Redis: read some documents, and write them if nobody else did meanwhile. No arithmetic is here.

All refuse when the data are of another life of the server than the caller's connection: `epoch` holds the `run_id` of
the server for which the balances were last known to be whole. Each returns Redis's time before what it found.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

_GUARD = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return redis.error_reply('EPOCH another life of the server') end
local time = redis.call('TIME')
"""


@dataclass(frozen=True, slots=True)
class Script:
    """A script and the name by which Redis knows it once it is loaded."""

    text: str
    sha: str = field(init=False)
    """The name."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "sha", hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest())


# KEYS: epoch, documents…; ARGV: epoch. Returns the documents.
LOOK = Script(
    _GUARD
    + """
if #KEYS == 1 then return {time[1], time[2]} end
return {time[1], time[2], unpack(redis.call('MGET', unpack(KEYS, 2)))}
"""
)

# KEYS: epoch, index, documents…; ARGV: epoch, then of every document what was read, what is to stand there, for how
# many ms, and its place in the index: a number, '-' for none, '' when it has nothing to do with the index.
# Returns nothing, or the documents as they are when another was faster.
SWAP = Script(
    _GUARD
    + """
local found = redis.call('MGET', unpack(KEYS, 3))
for n, value in ipairs(found) do
  if (value or '') ~= ARGV[4 * n - 2] then return {time[1], time[2], unpack(found)} end
end
for n = 1, #found do
  local name, place = KEYS[n + 2], ARGV[4 * n + 1]
  if ARGV[4 * n - 1] ~= ARGV[4 * n - 2] then redis.call('SET', name, ARGV[4 * n - 1], 'PX', ARGV[4 * n]) end
  if place == '-' then redis.call('ZREM', KEYS[2], name) end
  if place ~= '-' and place ~= '' then redis.call('ZADD', KEYS[2], place, name) end
end
return {time[1], time[2]}
"""
)

# KEYS: epoch, index; ARGV: epoch, a place, most. Returns the documents before that place in the index, in order.
BEFORE = Script(
    _GUARD
    + """
local found = {time[1], time[2]}
for _, name in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', '(' .. ARGV[2], 'LIMIT', 0, ARGV[3])) do
  local value = redis.call('GET', name)
  if value then found[#found + 1] = value else redis.call('ZREM', KEYS[2], name) end
end
return found
"""
)

# KEYS: epoch, a name; ARGV: epoch. Writes the time under the name, and returns nothing.
NOTE = Script(
    _GUARD
    + """
redis.call('SET', KEYS[2], time[1])
return {time[1], time[2]}
"""
)

# KEYS: epoch, a name; ARGV: epoch, what stands there. Drops it unless something else stands there; returns nothing.
DROP = Script(
    _GUARD
    + """
if redis.call('GET', KEYS[2]) == ARGV[2] then redis.call('DEL', KEYS[2]) end
return {time[1], time[2]}
"""
)
ALL = (LOOK, SWAP, BEFORE, NOTE, DROP)

# The two below put the ledger together, where no epoch holds yet; they are not loaded.
# KEYS: turn, epoch, names…; ARGV: whose turn, the epoch before, for how many ms the turn is kept, then for every name
# what is to stand there, '' for nothing, and for how many ms, 0 for ever. Returns 0 when the turn is over, else 1.
PUT = """
local before = redis.call('GET', KEYS[2]) or ''
if redis.call('GET', KEYS[1]) ~= ARGV[1] or before ~= ARGV[2] then return 0 end
redis.call('PEXPIRE', KEYS[1], ARGV[3])
for n = 3, #KEYS do
  local text, ms = ARGV[2 * n - 2], ARGV[2 * n - 1]
  if text == '' then redis.call('DEL', KEYS[n])
  elseif ms == '0' then redis.call('SET', KEYS[n], text)
  else redis.call('SET', KEYS[n], text, 'PX', ms) end
end
return 1
"""

# KEYS: turn; ARGV: whose turn. Ends it unless it is another's.
END_TURN = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
"""
