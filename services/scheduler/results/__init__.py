"""What becomes of results: kept under a key, given again to who asks for the same, removed when their time is over.

cache_key       what two requests must have in common to get the same pictures
reuse           pure: what a hit, a joiner and the end of the run it waits for make of a job
store           what the job store promises for all this; sql_* and memory_* keep it
joined_runs     in memory: who waits for which run, and who took one over
sweeper         agent: removes what is over, by way of `removal`: marked in SQL, deleted, noted as gone
follower        agent: brings joiners to the end of their run
"""
