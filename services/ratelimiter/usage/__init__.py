"""What was used, and by whom: a row a job, written once, from which bills, reports and lost balances come.

`book` says what a row is, `reports` add rows up by day, tenant, key and model, `alerts` tell when a day, a cap or a balance
runs out, and `retention` forgets what is old.
"""
