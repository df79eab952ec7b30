"""Typed calls to the services, each with its deadline."""
