"""Who is told of a job's events: a delivery a chosen event, committed with it, claimed and reported by gateways."""
