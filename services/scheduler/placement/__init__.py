"""Which worker gets a job, which attempt steps aside for a higher tier, and which model is loaded before it is asked for.

placement, preemption, preload and turns decide (pure); seats and fleet keep what they look at, preempter and preloader act.
"""
