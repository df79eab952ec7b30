"""What a request asks for and what it costs; pure, shared by gateway, scheduler, limiter and model server."""
