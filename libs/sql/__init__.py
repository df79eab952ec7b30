"""SQLite and PostgreSQL behind SQLAlchemy: engines that keep their word, transactions never broken off, migrations.

What fails here is `failures.DatabaseAway`; each service turns it into its own meaning where it calls.
"""
