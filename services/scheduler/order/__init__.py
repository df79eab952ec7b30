"""The order of waiting jobs: ordering puts the other parts together. Pure, times are arguments.

shares    what a tier weighs and how long its jobs should wait at most
waiting   a waiting job as the order sees it
account   virtual time: what somebody was given, over its weight
queue     the jobs of one tenant and model          tenant  the queues of one tenant, and its account
tier      the tenants of one tier, in a line for each model; picks the next job of the tier
lane      one of ten dispatches, for jobs that waited too long
index     jobs by id, forked without a copy         ages    how long the jobs of a tier have waited
resting   retries that wait for their time          places  where a job stands

What it promises, and tests/unit/services/scheduler/order/test_properties.py checks before drawn fleets. Times are units
given over weight; u is the largest job, S the dearest load, both over the lightest weight.

    tenants     Only a job of the tenant with least time starts, or by locality one that is S ahead at most. So times of
                tenants that wait are S + u apart at most, at every start. Whoever comes back does so at the least time
                of the last start or later: whatever the past, over any time in which two wait the one gets 2 (S + u)
                more than the other at most.
    measured    The same holds for what was really used, but for what the estimates of the running jobs of both are
                wrong by: a correction comes when a job ends, and until then nobody knows.
    tiers       u apart, what went by the lane not counted. There is no slack between tiers.
    lane        One of any ten starts at most: of the dispatches, not of the units.
    waiting     A tier of share s that asks for less than s (1 − l) of the rows, l the units that the lane can take, and
                for bursts of b, is behind for a bounded time only: (s d + b) / (s (1 − l) rows − rate), where d is a few
                jobs. No job of it waits past the tier's bound if the bound is longer than that; a bound that is shorter
                cannot be promised by any order that is fair. Above its share darkroom_queue_late_total,
                darkroom_queue_overdue and darkroom_queue_lane_total tell.
    work        Whenever a job waits whose model somebody takes, one starts.
    within      A tenant's jobs go by priority, then arrival, but for locality and the lane; they move nobody else's.

That a model was not to be had is no credit beyond a minute (account.LAG_UNITS), so the first two hold between tenants
whose models are to be had.
"""
