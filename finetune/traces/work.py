"""The spans of workers: a step of a job, a provider's calls in it, a training."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from finetune.traces.spans import Scope, header, span, tracing

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

    from finetune.jobs import Job, Lease
    from finetune.runs import Run

_Thing = TypeVar("_Thing")

#: The calls of a provider that get a span each: those that send something.
CALLS: Final = frozenset(
    {"upload", "find", "create", "poll", "cancel", "start", "pause", "resume", "delete_file", "fetch_results"}
)
#: A step that leaves these as they were is a look at a provider where nothing has happened.
_TOLD: Final = (
    *("state", "provider_state", "attempt", "remote_id", "cancel_requested", "held", "failures", "cost"),
    *("create_sent_at", "doubt_until", "error"),
)

_advance: ContextVar["_Advance | None"] = ContextVar("advance", default=None)


def calls(provider: _Thing) -> _Thing:
    """A stand-in for a provider that makes a client span of each of its `CALLS`; the provider itself, untraced.

    It can do what the provider can, and `isinstance` says so: its class has a member for each of the provider's.
    """
    if tracing() is None:
        return provider
    from inspect import getattr_static  # slow to load, and `ft --help` needs none of it

    names = [name for name in dir(provider) if not name.startswith("_")]
    # None in a class is how a provider says that it cannot do what the one below it can.
    lacks = frozenset(name for name in names if getattr_static(provider, name) is None)
    made: Any = _stand_in(f"Traced{type(provider).__name__}", frozenset(names), lacks)()
    made._provider = provider
    return cast(_Thing, made)


@cache
def _stand_in(title: str, names: frozenset[str], lacks: frozenset[str]) -> type:
    members = {name: _traced(name) if name in CALLS else _handed_on(name) for name in names}
    return type(title, (), {"__slots__": ("_provider",), **members, **dict.fromkeys(lacks)})


def _handed_on(name: str) -> property:
    return property(lambda self: getattr(self._provider, name))


def _traced(name: str) -> Callable[..., Any]:
    def call(self: Any, *args: Any, **more: Any) -> Any:
        provider = self._provider
        with span(f"{provider.name} {name}", {"ft.provider": provider.name, "ft.call": name}, client=True):
            return getattr(provider, name)(*args, **more)

    return call


def steps(jobs: _Thing) -> _Thing:
    """A stand-in for a JobStore: of what its user does between `claim` and `apply` it makes a span, inside `advancing`.

    The store itself where nothing is traced.
    """
    return jobs if tracing() is None else cast(_Thing, _Jobs(jobs))


class _Jobs:
    """Sees each step begin and end; all else it hands on."""

    def __init__(self, jobs: Any) -> None:
        self._jobs = jobs

    def __getattr__(self, name: str) -> Any:
        return getattr(self._jobs, name)

    def claim(self, *args: Any, **more: Any) -> "Lease | None":
        lease: Lease | None = self._jobs.claim(*args, **more)
        if lease is not None and (advance := _advance.get()):
            advance.begin(lease.job)
        return lease

    def apply(self, *args: Any, **more: Any) -> "Job":
        advance = _advance.get()
        try:
            job: Job = self._jobs.apply(*args, **more)
        except BaseException as error:
            if advance:
                advance.failed(error)
            raise
        if advance:
            advance.done(job)
            # One lease may do for the step after it, too.
            advance.begin(job)
        return job


@contextmanager
def advancing(claimed: "Job | None" = None) -> Iterator[None]:
    """In the block this thread moves a job: each step is a span of the job's trace (see `steps`).

    One that changes nothing but progress is thrown away. `claimed` is a job that was claimed before the block, None
    one that is claimed in it.
    """
    if tracing() is None:
        yield
        return
    advance = _Advance()
    token = _advance.set(advance)
    if claimed is not None:
        advance.begin(claimed)
    try:
        yield
    except BaseException as error:
        advance.failed(error)
        raise
    finally:
        advance.end()
        _advance.reset(token)


class _Advance:
    """What one thread does for one job under one lease: a step after the other."""

    def __init__(self) -> None:
        #: As it is before the step; None: no step has begun.
        self._before: Job | None = None
        self._scope = Scope("")
        #: The step's own spans, which are not sent before it is known whether it is worth telling.
        self._spans: list[ReadableSpan] = []
        self._first = True

    def begin(self, job: "Job") -> None:
        from finetune.traces.sending import held

        self._before, self._spans = job, []
        self._token = held.set(self._spans)
        self._scope = Scope(f"advance {job.state}", parent=job.trace, job=job.id)
        self._scope.__enter__()

    def done(self, after: "Job") -> None:
        if before := self._leave():
            _tell(self._scope, before, after)
            self._over(send=_changed(before, after))

    def failed(self, error: BaseException) -> None:
        if before := self._leave():
            _tell(self._scope, before, None)
            self._scope.end(error)
            self._over(send=True)

    def end(self) -> None:
        """Nothing follows. Silent if that is no surprise."""
        begun = self._first or self._spans
        if before := self._leave():
            _tell(self._scope, before, None)
            # Another worker has the job, and writes what becomes of it.
            self._scope.failed("lease lost")
            self._over(send=bool(begun))

    def _leave(self) -> "Job | None":
        before, self._before = self._before, None
        if before is not None:
            self._scope.__exit__(None, None, None)
        return before

    def _over(self, *, send: bool) -> None:
        from finetune.traces.sending import held

        self._first = False
        self._scope.end()
        held.reset(self._token)
        if send and (now := tracing()):
            now.send(self._spans)


def _tell(scope: Scope, before: "Job", after: "Job | None") -> None:
    last = after or before
    scope.tell({"ft.job.id": before.id, "ft.provider": before.provider, "ft.target": before.target})
    scope.tell({"ft.state.before": str(before.state), "ft.state.after": str(after.state) if after else None})
    scope.tell({"ft.attempt": last.attempt, "ft.run_key": last.run_key, "ft.remote_id": last.remote_id})
    if after is None:
        return
    if after.state == "failed" != before.state:
        scope.failed(str((after.error or {}).get("code")))
    elif after.failures > before.failures:
        scope.failed("to be tried again")


def _changed(before: "Job | None", after: "Job") -> bool:
    return any(getattr(before, name, None) != getattr(after, name) for name in _TOLD)


@contextmanager
def training(run_key: str, job_of: Callable[[str], "Job"], run_of: Callable[[str], "Run | None"]) -> Iterator[None]:
    """A worker's training, as a span of its job's trace. The two find a job by its id, a run by its key; may raise."""
    if tracing() is None:
        yield
        return
    # The lifecycle makes a run's key of its job's id.
    job_id = run_key.rpartition("-a")[0]
    job = _found(job_of, job_id)
    scope = Scope(f"train {run_key}", parent=job.trace if job else None, job=job_id)
    try:
        with scope:
            scope.tell({"ft.run_key": run_key, "ft.job.id": job_id, "ft.target": job.target if job else None})
            yield
    finally:
        if run := _found(run_of, run_key):
            scope.tell({"ft.run.state": run.state, "ft.run.starts": run.starts, "ft.run.deaths": run.deaths})
            if run.state == "failed":
                scope.failed(str((run.error or {}).get("code")))
        scope.end()


def environment() -> dict[str, str]:
    """What a process that this thread starts needs, for its spans to be children of the present one: TRACEPARENT."""
    present = header()
    return {} if present is None else {"TRACEPARENT": present}


def _found(look: Callable[[str], _Thing], key: str) -> _Thing | None:
    try:
        return look(key)
    except Exception:  # noqa: BLE001 -- a trace must not end a training
        return None
