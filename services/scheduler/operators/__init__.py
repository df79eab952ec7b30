"""What operators ask for: drains, pins, dead letters, a look at the queue, models warmed and evicted."""
