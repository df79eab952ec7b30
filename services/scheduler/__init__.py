"""The scheduler: the authority for jobs, their order, their events, the catalog and the cost table.

Main path of a job:

    servicer.Submit → desk.submit → store.accept (committed, with the confirmation of its reservation)
      → open_jobs.queued → ordering → dispatcher: place, store.start (committed) → attempts.runner: Execute
      → events to watch_hub → attempts.closer: store.end (committed, with the settlement) → outbox → limiter

States (job.py draws them): QUEUED ⇄ RUNNING → SUCCEEDED | FAILED | CANCELLED | EXPIRED.

Packages: storage (the truth), order (which job next), placement (which worker, preemption, preloads), attempts (one
run of a job), retries (what a failed one means), results (cache and retention), settlement (charges, outbox), webhooks
(deliveries that gateways claim), events (watching), forecast (waits, needed workers), replicas (who leads), operators.
Each package's docstring goes on.

SQL is the truth; memory (open_jobs, order.ordering) is an index over it that every start rebuilds. Whoever commits a
change tells open_jobs once, after the commit. Two fences keep late writers out: the leader's epoch in every write,
and (job, attempt) in every change of an attempt. Agents, one file each, all in one task group: dispatcher,
expirer, outbox, reconciler, catalog, fleet, checkpoint_sweeper, preloader, substitution, forecaster.

When a peer is gone:
    model server   its attempt is closed as lost, the job goes on elsewhere from its last checkpoint, if it has one;
                   three counted attempts, then it failed
    blob store     jobs run without checkpoints; what is left of ended ones is removed later
    etcd           the last known fleet is used on, by whoever leads: the epoch in the store is the fence, not the lease;
                   when it is back a fleet whose leases ran out has a moment to return (fleet.gone)
    limiter        confirmations and settlements wait in the outbox
    SQL            nothing is accepted or begun (UNAVAILABLE); outcomes of running attempts are held until it is back
    a stream       the worker goes on; it is attached to again (listening), and lost only when that fails for seconds
    this process   attempts go on on their workers; the next leader follows them again (reattachment)
    another leader `Deposed` ends the process

Several may run on PostgreSQL. Each commits what owners ask (standby_desk) and relays the rest to the leader (relay);
etcd elects who leads (candidacy), the epoch in the store decides it (lead_store), and the leader takes in what the
others committed (handover).
"""
