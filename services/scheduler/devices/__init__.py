"""What the devices' time went into, by day: each minute the leader asks every worker and adds up what is new."""
