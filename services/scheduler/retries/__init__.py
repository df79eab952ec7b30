"""What happens to a job after an attempt that brought no pictures, and to the worker it failed on.

retry and verdicts decide (pure), quarantine counts failures by worker and ward acts on them, substitution lets jobs go
to the fallback model they allow.
"""
