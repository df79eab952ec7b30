"""How much the requests of callers without a key look like a machine's: 0 to 100, from what they do and where from.

`watch` remembers for two days at most, hashes only, in this process; `score` weighs what it remembers, `reputation`
are lists of networks. The gateway answers: from 40 on the jobs wait behind others of the tier, from 60 on the answer
speaks of a key as well, from 80 on one job after the other, half a minute apart. Whoever has a key is never looked at.
"""
