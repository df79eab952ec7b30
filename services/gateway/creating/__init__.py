"""From a request to a durable job: read, checked, priced, reserved, submitted, answered."""
