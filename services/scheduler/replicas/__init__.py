"""Several schedulers on one store: who leads, what the others do meanwhile, and how the lead changes hands.

etcd elects (candidacy), the epoch in the store decides (lead_store, leadership). A standby commits what owners ask
(standby_desk) and relays the rest (relay); the leader takes in what it committed (handover).
"""
