"""The truth: jobs, attempts, events and the outbox, in SQL or, for tests, in memory.

store.py is the contract, changes.py what each change makes of a job; one group commit stands before each database.
"""
