"""The order of waiting jobs: ordering puts the other parts together. Pure, times are arguments.

shares    what a tier weighs and how long its jobs should wait at most
waiting   a waiting job as the order sees it
account   virtual time: what somebody was given, over its weight
queue     the jobs of one tenant and model          tenant  the queues of one tenant, and its account
tier      the tenants of one tier, in a line for each model; picks the next job of the tier
lane      one of ten dispatches, for jobs that waited too long
index     jobs by id, forked without a copy         ages    how long the jobs of a tier have waited
resting   retries that wait for their time          places  where a job stands
"""
