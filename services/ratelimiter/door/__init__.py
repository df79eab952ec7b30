"""Who is calling: Envoy asks for every request, recognisers are asked in turn, and the answer is headers it trusts.

`authz_servicer` and `authz_wire` speak with Envoy, `door.Door` asks, `callers` says what a question and a caller are.
`url_recogniser` refuses keys in URLs, `token_recogniser` and `key_recogniser` know those who show something, and
`services.ratelimiter.strangers` everybody else; `identity` puts them together.
"""
