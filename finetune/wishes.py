"""What users want of a job while it goes on: a pause, an end by a deadline, a limit of cost. Wishes, until reached."""

from dataclasses import replace
from datetime import datetime
from decimal import Decimal

from finetune.abilities import Pausable
from finetune.errors import AuthenticationFailed, Problem, ProviderError
from finetune.jobs import FINAL, Change, Event, Job, JobState
from finetune.ports import Observation, Provider
from finetune.spec.types import dollars


def held(job: Job, provider: Provider, state: str, now: datetime) -> Change:
    """What a wish to pause, or its end, asks for in this provider state. Sends at most one request.

    What was paused at the provider itself, not through ft, is left as it is. A refusal never ends the job: one that
    does not train yet is asked again at the next look, of one that trains the wish is dropped and the history says why.
    Raises what may pass, and AuthenticationFailed.
    """
    change = Change(state=job.state, due_at=None, fields={})
    if not isinstance(provider, Pausable) or job.cancel_requested or job.hold_requested == job.held:
        return change
    if not (job.hold_requested and state == "paused"):
        try:
            (provider.pause if job.hold_requested else provider.resume)(str(job.remote_id))
        except ProviderError as error:
            if error.retry or isinstance(error, AuthenticationFailed):
                raise
            return _refused(job, change, error, state, now)
        if job.hold_requested:
            return change
    told = Event(kind="state", message="paused" if job.hold_requested else "goes on", at=now)
    return replace(change, fields={"held": job.hold_requested}, events=(told,))


def _refused(job: Job, change: Change, error: ProviderError, state: str, now: datetime) -> Change:
    if job.hold_requested and state != "running":
        return change
    if not job.hold_requested and state != "paused":
        # The pause never reached it: there is nothing to lift.
        return replace(change, fields={"held": False})
    told = Event(kind="warning", message=f"{error.problems[0].what}; it stays as it is", at=now)
    return replace(change, fields={"hold_requested": job.held}, events=(told,))


def late(job: Job, now: datetime) -> Change | None:
    """The wish to cancel, once the deadline has passed; None otherwise. What has trained by then is kept."""
    ends = job.final or job.cancel_requested or job.state is JobState.REGISTERING
    if ends or job.deadline_at is None or now < job.deadline_at:
        return None
    told = Event(kind="warning", message="limits.deadline has passed: cancelling", at=now)
    fields = {"cancel_requested": True, "error": _too_late(job.deadline_at).brief}
    return Change(state=job.state, due_at=now, fields=fields, events=(told,))


def spent(job: Job, seen: Observation, now: datetime) -> Change:
    """What a training has cost so far, and the wish to cancel once that is above the limit. What has ended is kept."""
    change, usd = Change(state=job.state, due_at=None, fields={}), seen.spent_usd
    if usd is None:
        return change
    change = replace(change, fields={"cost": {**(job.cost or {}), "spent": str(usd)}})
    most = (job.recipe.get("limits") or {}).get("max_cost")
    limit = None if most is None else dollars(most)
    ends = job.cancel_requested or seen.state in ("succeeded", "failed", "cancelled")
    if limit is None or usd <= limit or ends:
        return change
    told = Event(kind="warning", message=f"limits.max_cost is used up ({usd} of {limit} USD): cancelling", at=now)
    fields = {**change.fields, "cancel_requested": True, "error": _used_up(usd, limit).brief}
    return replace(change, fields=fields, events=(told,))


def ended(job: Job, change: Change) -> Change:
    """The change, looked at again no later than the deadline; a cancel that a deadline asked for is a failure."""
    if change.state not in FINAL:
        by = None if job.cancel_requested or job.final else job.deadline_at
        return replace(change, due_at=min(change.due_at, by)) if change.due_at and by else change
    if change.state is JobState.CANCELLED and job.error and not job.final:
        why = Event(kind="error", message=f"failed: {job.error['what']}", at=change.events[-1].at)
        return replace(change, state=JobState.FAILED, events=(*change.events, why))
    if change.state is JobState.SUCCEEDED and job.error:
        return replace(change, fields={**change.fields, "error": None})
    return change


def _used_up(usd: Decimal, limit: Decimal) -> Problem:
    return Problem(
        code="E315",
        what=f"the training has cost {usd} US dollars, and limits.max_cost is {limit}",
        why="FT_GPU_HOUR_USD counts each hour of each card",
        fix="raise limits.max_cost and submit again, or train on fewer rows or epochs",
    )


def _too_late(deadline_at: datetime) -> Problem:
    return Problem(
        code="E314",
        what=f"not trained by {deadline_at:%Y-%m-%d %H:%M:%S} UTC",
        why="limits.deadline counts from the submission, and waiting counts too",
        fix="`ft queue` shows what jobs wait for; raise limits.deadline and submit again",
    )
