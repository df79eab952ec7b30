"""Where balances and reservations stand: in memory, or in Redis for several rate limiters.

`ledger` is the promise, `memory_ledger` and `redis_ledger` keep it without arithmetic of their own; one contract suite
checks both. Of Redis: `redis_line` is the connection, `redis_scripts` what it is asked, `redis_guess` spares a round trip,
`turns` let each tenant wait for itself alone, and `restoring` fills one that lost its data. `opening` chooses.
"""
