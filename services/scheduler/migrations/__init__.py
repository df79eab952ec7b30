"""The history of the scheduler's tables. A revision is a file in `versions`; `upgrade.upgrade` brings a database to the latest."""
