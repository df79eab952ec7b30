"""What is to come: when a waiting job will start, and how many workers the queue needs.

    open_jobs tells forecaster of every change → speeds, demand and promises learn from it
    once a second: a fork of the order is simulated, in slices → outlook → estimator, made honest by calibration

Pure: demand, speeds, calibration, promises, snapshot, simulation, outlook. The forecaster is the agent around them.
"""
