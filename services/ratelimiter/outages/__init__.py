"""What goes on while Redis is away: a share of the limits, decided alone, and told afterwards.

`breaker` says when it is away, `outage` decides meanwhile with `stand_in` by `outage_share`, `journal` writes down what was
answered, and `recovery` tells Redis when it is back.
"""
