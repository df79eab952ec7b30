"""Prices that learn: what attempts were measured to cost becomes the table that everybody prices by.

    runner tells keeper of each attempt that drew its pictures → book: a calibration by model and class of device
    every few seconds: book → next version of the table → kept in the store → the catalog, and all that watch it

Units are milliseconds of a model's reference class of device: the one that served it first, from then on. `worth` turns
milliseconds of another class into units.
"""
