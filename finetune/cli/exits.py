"""How `ft` exits. The table is in the README and in docs/cli.md; the numbers never change their meaning."""

OK = 0
#: A job failed, or something else went wrong that has no number of its own.
FAILED = 1
USAGE = 2
CANCELLED = 3
TIMEOUT = 4
NOT_FOUND = 5
NOT_ELIGIBLE = 6
OVER_BUDGET = 7
GATE_REFUSED = 8
AUTHENTICATION = 9
#: Ctrl-C: we stopped looking, the job goes on. 128 + SIGINT, as shells have it.
DETACHED = 130

#: By the final state of a job. Plain words: importing `JobState` would cost every start some milliseconds.
OF_STATE: dict[str, int] = {"succeeded": OK, "failed": FAILED, "cancelled": CANCELLED}
