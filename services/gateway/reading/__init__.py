"""What jobs give back: events, pictures and waits, the links and tokens that lead there."""
