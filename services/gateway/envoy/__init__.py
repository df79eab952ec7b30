"""Envoy's configuration, as typed objects: the only door, for REST, gRPC, gRPC-web and events.

`bootstrap.render` is the whole of it; `filters` holds the HTTP filters in their order, `routes` who may go where
and for how long, `replies` the JSON of Envoy's own refusals, `authorization` the question to the rate limiter.
`python -m services.gateway.envoy` prints it; k8s/envoy/envoy.yaml is a print, checked for drift.
"""
