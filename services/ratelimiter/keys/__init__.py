"""API keys and the accounts they belong to: made, replaced, withdrawn, counted, forgotten; and free sign-up.

`form` says what a key looks like, `keyring` recognises and keeps them, `own_keys` is what tenants may do with their own,
`sign_up` makes an account with its first one. `admin_servicer` is for operators, `identity_servicer` for the gateway.
"""
