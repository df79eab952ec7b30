"""What deliveries of webhooks have in common, whoever keeps them: how often they are tried, and who gets how many.

`tries` says what a report makes of a delivery, `shares` what a claimer gets of what is due (`libs.sql.claims` puts the
same question to a table); both are pure. `counting` says how many wait.
"""
