"""One file a change of the tables, in a chain."""
