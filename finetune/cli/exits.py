"""How `ft` exits. The table is in the README and in docs/cli.md; the numbers never change their meaning."""

from finetune.jobs import JobState

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

OF_STATE: dict[JobState, int] = {
    JobState.SUCCEEDED: OK,
    JobState.FAILED: FAILED,
    JobState.CANCELLED: CANCELLED,
}
