"""One run of a job on a worker, from Execute to its outcome.

runner begins it and hears its stream; listening attaches again when the stream breaks, reattachment when this process
is new to it; reconciler looks for attempts nobody follows; closer commits what the outcome means (retries.verdicts).
"""
