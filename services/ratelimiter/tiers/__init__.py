"""What each tier grants, and what a tenant or key was granted beside it.

`policy` reads `tiers.toml`, `fields` and `sense` say what is wrong with one, `file` follows it while it changes, and
`tariffs` gives the limits in force: those of the tier with what was agreed with the tenant (`agreed`).
"""
