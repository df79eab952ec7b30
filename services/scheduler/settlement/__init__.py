"""What an ended job costs and to whom it is said: endings carry charges, the outbox delivers them to the limiter."""
