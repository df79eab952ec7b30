"""The four processes. They meet each other only over gRPC; what they share lives in `libs`."""
