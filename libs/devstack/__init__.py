"""`make run`: the whole platform on one machine, from one command.

Authority for: which processes a stack has, in what order they start, when each counts as ready, which loopback
ports they use, and the data folder they share (one stack at a time, held by a lock). It decides nothing about jobs.

Main path: `up.up` holds the folder (`folder.DataFolder.held`), chooses addresses (`addresses.choose`), renders
Envoy's configuration (`envoy_config.render`), starts the groups of `stack.Stack.groups` in order
(`supervisor.Supervisor.start`), makes the first key (`first_key.ensure`), prints how to begin, and watches.

A process (`child.Child`): starting → ready → ended → waiting → starting …; it is started again for ever once it has
been ready, with doubling delays. Bad settings (exit 2), or never ready in the first tries: the stack stops and shows
the end of that process's log. Ctrl-C stops everything in reverse order; when the supervisor itself is killed, the
kernel kills its children (`launcher`).
"""
