"""The rate limiter: the authority for tenants, keys, tiers in force, usage and reservations.

Main path: `limiter.Limiter.reserve` → `confirm` → `renew` … → `settle` | `release`; `peek` says what `reserve` would
decide.

    door        who is calling: Envoy asks for every request   (`strangers`: without a key; `abuse`: how they behave)
    keys        API keys, accounts, free sign-up
    tiers       what each tier grants, and what was agreed with a tenant
    tenants     tenants as operators keep them, prepaid money, what happened to them
    webhooks    where they want to be told of it, and what is still to be sent
    balances    the arithmetic of limits: one step of a reservation in all its accounts. Pure
    ledgers     where balances stand, in memory or in Redis
    outages     what goes on while Redis is away
    usage       a row a job, from which bills, reports and lost balances come

    reserve            confirm             settle
    ───────▶ TENTATIVE ───────▶ CONFIRMED ───────▶ SETTLED
              │     └ release ▶ RELEASED             ▲
              └── unconfirmed ▶ EXPIRED ── settle ───┘

The life of a reservation is a table, and one decision goes over all accounts that it stands in (the tenant, its key,
the address of a stranger) and all their limits: what drains in the minute, places in flight, the day. A ledger gives
it a transaction and the time. Keys and usage are in SQL, and usage is once-only by job id: after a loss balances are
rebuilt from it, and a confirm or a settle whose reservation was forgotten is applied from what it carries. The
settlement pays and adds usage up by day in the transaction of its row.

When Redis is gone, `outages` grants a share of the limits, keeps a journal, and finds the way back.
When the database is gone, keys of the last seconds still open the door, reservations go on, settlements fail and
come again. When this process is gone, nobody is let in (503) and the scheduler keeps its settlements.
"""
