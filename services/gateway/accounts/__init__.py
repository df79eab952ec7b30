"""What callers do with their own account: keys, limits, usage and events."""
