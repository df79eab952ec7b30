"""The arithmetic of limits. Pure: no clock, no I/O; a ledger gives it its time and a transaction.

`bucket` (rates), `leases` (pictures in flight) and `days` (the day in UTC) make a `balance`; `scope` says which accounts a
reservation stands in, `refusal` why it is refused, `causes` what the end of a job costs, and `booking` does one step of one
`reservation` in all of its accounts together.
"""
