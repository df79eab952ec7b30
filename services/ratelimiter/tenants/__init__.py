"""Tenants as operators keep them: tier, agreements, verified or not, prepaid money; and what they are told.

`tenancy` decides whether a tenant may spend at all, `till` holds money before the work and `wallets` keep it; `events` are
what happened to a tenant. `servicer` is for operators, `own_account` and `account_servicer` for tenants about themselves.
"""
