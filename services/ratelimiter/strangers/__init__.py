"""Callers who prove nothing: as whom they are taken, and how much of the day they share.

A browser keeps a signed cookie and is `anon:<visitor>` (`visitors`, `cookies`); whoever brings none is
`anon:<address>`, as are all without one behind that address, and is handed one with the answer. A cookie holds within
the network it was made in; elsewhere, forged or signed with a key that is gone it is as none, and nobody is told.

An address goes no further than this package: a hash stands for it wherever something is kept (`pseudonyms`).

What is counted together (`services/ratelimiter/balances/scope.py`): a visitor's own day; the day of everybody who came to an
address today, with a new cookie or none, so that throwing cookies away wins nothing; the ceiling of the address; of IPv6
the ceiling of the network around it.
"""
