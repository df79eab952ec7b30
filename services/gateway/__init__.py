"""The gateway: the public contract. It is the authority for nothing and keeps no state, so any number may run.

Main path (`creating/admission`):  parse → find by idempotency key → check and price → look up uploads → reserve →
submit → answer. Beside it: `reading/` (events, pictures, waits), `uploads/` (pictures that requests start from),
`accounts/` (keys, limits, usage), `webhooks/` (sent to whom requests and accounts name), `health`, the page in `web/`.

    bytes of a REST body ── parsing ─┐
    typed message ───────────────────┴─ Draft ── drafts.price ── Priced ── admission ── Job ── presentation

Who is calling comes from the door (`callers/identity`); what is handed out and taken back – picture links, event
tokens, page tokens – is signed (`libs/signing`). Envoy's configuration lies in `envoy/`.

When a peer is gone: no scheduler: creating and reading answer 503 within a second, open event streams stay open with
keepalives and go on after the last sequence when it is back, the catalog is kept. No rate limiter: creating answers
503 LIMITER_DEGRADED, everything else works. No picture store: downloads answer 503. No receiver of a webhook: it is
tried again, for a day. This process dies between Reserve and Submit: the reservation is tentative and expires; while it
sends a webhook: its lease runs out and another gateway sends it again.
"""
