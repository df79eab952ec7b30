"""The operator's and user's command line: `darkroom`.

`main` gathers the commands; `target` finds the server, the key and the operator's tokens; `output` prints for
people or, with `--json`, for programs. Everything else is one file a command group.
"""
