"""Who is told of a tenant's events: its endpoints, and a delivery for each event and endpoint, committed with the event.

Gateways claim deliveries under a lease, send them and report what came of it. What an endpoint's webhooks are signed with
is made by the gateways from a secret that only they read and the endpoint's id: here is nothing that could sign.
"""
