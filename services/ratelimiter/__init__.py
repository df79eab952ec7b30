"""The rate limiter: the authority for tenants, keys, tiers in force, usage and reservations.

Main path: `limiter.Limiter.reserve` → `confirm` → `renew` … → `settle` | `release`; `peek` says what `reserve` would
decide.
The door: `authz_servicer` answers Envoy for every request (who is calling, what may they still spend).
How callers are recognised stands in `callers`; `identity` and `tenancy` put together what `app` only starts.

    reserve            confirm             settle
    ───────▶ TENTATIVE ───────▶ CONFIRMED ───────▶ SETTLED
              │     └ release ▶ RELEASED             ▲
              └── unconfirmed ▶ EXPIRED ── settle ───┘

The life of a reservation is a table (`reservation`), the arithmetic is pure, a ledger gives it a transaction and the
time. One decision goes over all accounts of a reservation (`scope`: the tenant, its key, the address of a stranger) and
all their limits (`refusal`): what drains in the minute (`bucket`), places in flight (`leases`), the day (`days`).
`booking` moves them together or not at all; `causes` says what the end of a job leaves of it. Balances and reservations are in memory, or in Redis for several rate limiters
(`ledgers`); keys and usage are in SQL, and usage is once-only by job id. After a loss balances are rebuilt from the
usage of the last minutes, and a confirm or a settle whose reservation was forgotten is applied from what it carries.

Limits in force are the tier's (`tiers_file`, read again when it changes), with what operators agreed with a tenant or
for a key (`tenants`, `agreed`), together in memory (`tariffs`). `till` holds money where a tier has a price; the
settlement pays it and adds usage up by day in the transaction of its row (`sql_usage`), from which `reports` reads and
`alerting` tells tenants what they should know. `tenancy` puts these parts together.

When Redis is gone, `outage` grants a share of the limits and keeps a journal, and `recovery` finds the way back.
When the database is gone, keys of the last seconds still open the door, reservations go on, settlements fail and
come again. When this process is gone, nobody is let in (503) and the scheduler keeps its settlements.
"""
