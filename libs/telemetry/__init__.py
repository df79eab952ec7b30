"""Traces, metrics and logs, the same way in every process."""
