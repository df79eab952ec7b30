"""Every gRPC server and channel is made here: tokens, deadlines, errors, health, drain, traces."""
