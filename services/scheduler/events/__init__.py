"""What watchers are told: durable events from the store, transient ones while somebody watches."""
