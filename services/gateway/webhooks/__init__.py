"""Webhooks: claimed from the scheduler and the rate limiter, signed, sent to checked addresses, reported.

agent (claims, reports) ── sender (one try) ── destinations (where it may go) ── addresses
   └── places (shares)             ├── look_ups (of names, few at a time)
                                   ├── payload (what is said, signed)
                                   └── connection (one post, read to the status)
"""
