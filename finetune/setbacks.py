"""What becomes of a job whose step failed: another try later, or its end."""

from datetime import datetime, timedelta
from typing import Any

from finetune.errors import AuthenticationFailed, FtError, InternalError, OutcomeUnknown, Problem
from finetune.jobs import Change, Event, Job, JobState

#: Temporary failures in a row before a job that cost nothing yet is given up (about half an hour).
MAX_FAILURES = 10
_LONGEST_WAIT_S = 300.0
_LONGEST_SILENCE_S = 24 * 3600.0


def after(job: Job, error: FtError, now: datetime, chance: float, **fields: Any) -> Change:
    """Try again later, or give up. `chance`, from 0 to 1, spreads the tries; `fields` are set as well.

    A job that may cost money is given up only when the provider itself refuses for good: a key that has expired or
    a fault of ours says nothing about the training, which goes on.
    """
    problem = error.problems[0]
    failures = job.failures + 1
    in_doubt = bool(job.create_sent_at or job.doubt_until) or isinstance(error, OutcomeUnknown)
    costs = in_doubt or job.state in (JobState.RUNNING, JobState.REGISTERING)
    ours = isinstance(error, (InternalError, AuthenticationFailed))
    patient = error.retry or (ours and costs) or isinstance(error, InternalError)
    if not patient or (failures >= MAX_FAILURES and not costs):
        told = Event(kind="state", message=f"{JobState.FAILED}: {problem.what}", at=now)
        return Change(state=JobState.FAILED, due_at=None, fields={**fields, "error": problem.brief}, events=(told,))
    # Spread, so that a thousand jobs do not come back in the same moment; and as late as the provider wants it.
    spread = 0.75 + 0.5 * chance
    wait_s = max(
        min(_LONGEST_WAIT_S, 2.0 ** min(failures, 9)) * spread,
        min(getattr(error, "after_s", None) or 0.0, _LONGEST_SILENCE_S),
    )
    note = f"{problem.what} ({problem.code}); trying again in {wait_s:.0f} s"
    return Change(
        state=job.state,
        due_at=now + timedelta(seconds=wait_s),
        fields={**fields, "failures": failures},
        events=(Event(kind="warning", message=note, at=now),),
    )


def summary(error: Exception) -> str:
    """The error in one sentence."""
    return (error.problems[0] if isinstance(error, FtError) else fault(error)).what


def fault(error: Exception) -> Problem:
    """What a step met that no adapter should let through."""
    return Problem(
        code="E991",
        what=f"a step failed unexpectedly: {type(error).__name__}",
        why=str(error)[:300],
        fix="please report it with the output of `ft logs`",
    )
