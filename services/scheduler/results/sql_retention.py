"""Removing what is over, in SQL."""
