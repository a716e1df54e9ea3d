"""The second job of one key: a create that seemed lost may be carried out after all, and must not be paid for unseen.

While the job runs, every look at it looks for another one of its key (`doubted`). When it ends in doubt the looking
goes on by itself until the hour is over (`watched`); the end stands, and what turns up is cancelled.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from finetune.jobs import Change, Event, Job, Json
from finetune.ports import Provider, RemoteJob

#: After a create whose answer was lost, the provider's list is watched for so long: its job may still turn up.
DOUBT: Final = timedelta(hours=1)
#: One that does not end, or a provider that cannot be asked, is looked after for so long.
_LONGEST: Final = timedelta(hours=24)


def adopted(provider: Provider, known: Sequence[RemoteJob], mine: str | None = None) -> tuple[RemoteJob, str]:
    """The job of several with one run key that stays; the others are cancelled.

    It is one that has trained, as that is paid for; else the oldest that has not ended; else `mine`, if it is there.
    Returns it and what is to be said of the others. `known` is not empty, oldest first.
    """
    kept = _worth_most(provider, known, mine) if len(known) > 1 else known[0]
    extra = [job.remote_id for job in known if job is not kept and not job.ended]
    for remote_id in extra:
        provider.cancel(remote_id)
    return kept, f"; cancelled {', '.join(extra)} of the same key" if extra else ""


def doubted(job: Job, provider: Provider, now: datetime) -> tuple[Json, tuple[Event, ...]]:
    """While a second job of the key may turn up: look, keep one (`adopted`), cancel the other, and say so.

    Returns columns and events. Raises what `Provider.find` and `cancel` raise.
    """
    if job.doubt_until is None:
        return {}, ()
    known = provider.find(str(job.run_key))
    if len(known) < 2:
        return ({"doubt_until": None} if now >= job.doubt_until else {}), ()
    kept, more = adopted(provider, known, str(job.remote_id))
    note = f"a create that seemed lost was carried out after all: kept {kept.remote_id}{more}"
    moved = {} if kept.remote_id == job.remote_id else {"remote_id": kept.remote_id, "cursor": None}
    return {"doubt_until": None, **moved}, (Event(kind="warning", message=note, at=now),)


def ended(job: Job, change: Change, now: datetime) -> Change:
    """A change that ends the job, and where that is in doubt the time to look for another of its key: at once.

    `job` is as it was before.
    """
    fields = {"create_sent_at": job.create_sent_at, "doubt_until": job.doubt_until, **change.fields}
    until = fields["doubt_until"] or (now + DOUBT if fields["create_sent_at"] else None)
    return replace(change, due_at=now, fields={**change.fields, "doubt_until": until}) if until else change


def watched(job: Job, provider: Provider, said: Iterable[Event], now: datetime) -> Change:
    """The next look after the end of a job in doubt: cancel what else has its key, until that has ended.

    `said` is the job's history: nothing is told twice. Raises what `Provider.find` and `cancel` raise.
    """
    others = [other for other in provider.find(str(job.run_key)) if other.remote_id != job.remote_id]
    told = "\n".join(event.message for event in said)
    news = []
    for other in others:
        if not other.ended:
            provider.cancel(other.remote_id)
        if other.remote_id not in told:
            done = f"it had ended there as {other.raw_state}" if other.ended else "cancelled it"
            note = f"a create that seemed lost was carried out after all, as {other.remote_id}: {done}"
            news.append(Event(kind="warning", message=note, at=now))
    settled = all(other.ended for other in others) and (bool(others) or now >= _until(job))
    return _again(job, now, tuple(news), settled=settled)


def unseen(job: Job, why: str, now: datetime) -> Change:
    """A look after the end that failed: another one later, up to a day; then the history says what to look for."""
    return _again(job, now, (), settled=False, why=why)


def _again(job: Job, now: datetime, news: tuple[Event, ...], *, settled: bool, why: str = "it has not ended") -> Change:
    given_up = not settled and now >= _until(job) - DOUBT + _LONGEST
    if given_up:
        note = f"no longer looking for a second job of {job.run_key}: {why}; see the provider's own console"
        news = (*news, Event(kind="warning", message=note, at=now))
    if settled or given_up:
        return Change(state=job.state, due_at=None, fields={"doubt_until": None}, events=news)
    pause_s = min(60.0, max(1.0, (now - job.changed_at).total_seconds() / 10))
    return Change(state=job.state, due_at=now + timedelta(seconds=pause_s), fields={}, events=news)


def _until(job: Job) -> datetime:
    return job.doubt_until or job.changed_at


def _worth_most(provider: Provider, known: Sequence[RemoteJob], mine: str | None) -> RemoteJob:
    first = sorted(known, key=lambda job: job.remote_id != mine)
    for job in first:
        if job.ended and provider.poll(job.remote_id, None).state == "succeeded":
            return job
    return next((job for job in known if not job.ended), first[0])
