"""Webhooks: claimed from the scheduler, signed, sent to checked addresses, reported.

agent (claims, reports) ── sender (one try) ── destinations (where it may go) ── addresses
                                   └── payload (what is said, signed)
"""
