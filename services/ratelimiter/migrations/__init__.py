"""The history of this service's tables, run at its start by `services.ratelimiter.migrate`."""
