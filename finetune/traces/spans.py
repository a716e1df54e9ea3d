"""Spans as the rest of ft sees them: nothing at all where nothing is traced."""

import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

from finetune.errors import FtError

if TYPE_CHECKING:
    from opentelemetry.trace import Span

    from finetune.traces.sending import Tracing

Attributes = Mapping[str, str | int | float | bool | None]
Say = Callable[[str], None]

_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS: Final = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
#: Of a text that may be an address: who logs in there, and what is asked of it.
_PRIVATE: Final = re.compile(r"(?<=://)[^/\s]*@|(?<=\S)[?#]\S*$")
_LONGEST: Final = 200

#: The span in which this thread is, maybe one of another process; None: in none.
_current: ContextVar["Span | None"] = ContextVar("span", default=None)


class _Process:
    """What is the same for all threads."""

    #: None: nothing is traced.
    tracing: "Tracing | None" = None
    open: "set[Scope]" = set()  # noqa: RUF012 -- there is one process


def tracing() -> "Tracing | None":
    """What records here; None where nothing is traced."""
    return _Process.tracing


def asked(env: Mapping[str, str] = os.environ) -> bool:
    """Whether the environment asks for traces: an OTLP endpoint is set, and nothing takes it back."""
    if env.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    exporters = {each.strip() for each in (env.get("OTEL_TRACES_EXPORTER") or "otlp").split(",")}
    return "otlp" in exporters and any(env.get(name) for name in _ENDPOINTS)


@contextmanager
def running(say: Say, *, instance: str | None = None) -> Iterator[None]:
    """Trace in this process while the block lasts, if the environment asks for it. Not nested.

    `instance` names the process. Whatever goes wrong with traces is told to `say` in one line, once, and stops nothing.
    At its end it ends what is open, and blocks for a second at most.
    """
    lost = _Once(say)
    _Process.tracing = _started(lost, instance) if asked() else None
    if _Process.tracing is None:
        yield
        return
    try:
        yield
    finally:
        for scope in list(_Process.open):
            scope.end(sys.exc_info()[1])
        ended, _Process.tracing = _Process.tracing, None
        if not ended.close():
            lost("the collector does not answer")


class _Once:
    """Says that traces are lost, and why; the first time only."""

    def __init__(self, say: Say) -> None:
        self._say, self._said = say, False

    def __call__(self, why: str) -> None:
        if not self._said:
            self._said = True
            self._say(f"traces are lost: {why}")


def _started(lost: Callable[[str], None], instance: str | None) -> "Tracing | None":
    protocol = next((value for name in _PROTOCOLS if (value := os.environ.get(name))), "http/protobuf")
    if protocol != "http/protobuf":
        lost(f"OTEL_EXPORTER_OTLP_PROTOCOL is {protocol[:40]!r}, and ft speaks http/protobuf")
        return None
    try:
        from finetune.traces.sending import Tracing
    except ImportError:
        lost("OpenTelemetry is not installed here; pip install 'ft-orchestrator[otel]'")
        return None
    try:
        return Tracing(lost, instance)
    except Exception as error:  # noqa: BLE001 -- a variable that cannot be read must not stop the command
        # Not what it says: the value may be an address with a password.
        lost(f"a variable OTEL_... cannot be used ({type(error).__name__})")
        return None


def _remote(header: str | None) -> "Span | None":
    """The span of another process that a `traceparent` names; None where it names none."""
    if header is None or _Process.tracing is None:
        return None
    from opentelemetry.trace import get_current_span
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    span = get_current_span(TraceContextTextMapPropagator().extract({"traceparent": header}))
    return span if span.get_span_context().is_valid else None


def header() -> str | None:
    """The present span as W3C `traceparent`, for `Job.trace`; None where nothing is traced."""
    if (span := _current.get()) is None:
        return None
    at = span.get_span_context()
    return f"00-{at.trace_id:032x}-{at.span_id:016x}-{at.trace_flags:02x}"


def tell(attributes: Attributes) -> None:
    """Add to the present span. Names and numbers only: no text of a user, no row, no message of a provider."""
    if (span := _current.get()) is not None:
        _put(span, attributes)


def _put(span: "Span", attributes: Attributes) -> None:
    for key, value in attributes.items():
        if value is not None:
            span.set_attribute(key, _PRIVATE.sub("", value)[:_LONGEST] if isinstance(value, str) else value)


class Scope:
    """A span that begins when it is first entered, may be entered again, and ends when it is told.

    Its parent is `parent` (a `traceparent`) or none at all; then it belongs to the trace of `job`, an id, if that is
    given. An error that leaves the block is noted by its code: what it says may quote data.
    """

    def __init__(self, name: str, *, parent: str | None = None, job: str | None = None) -> None:
        self._name, self._parent, self._job = name, parent, job
        self._span: Span | None = None
        self._tokens: list[Any] = []

    def __enter__(self) -> "Scope":
        self.begin()
        self._tokens.append(_current.set(self._span))
        return self

    def __exit__(self, kind: object, error: BaseException | None, at: object) -> None:
        _current.reset(self._tokens.pop())
        self._note(error)

    def begin(self) -> None:
        """Begin, without being entered. Idempotent."""
        if self._span is None and _Process.tracing is not None:
            self._span = _begin(self._name, _remote(self._parent), job=self._job)
            _Process.open.add(self)

    def tell(self, attributes: Attributes) -> None:
        """See `tell`."""
        if self._span is not None:
            _put(self._span, attributes)

    def failed(self, code: str) -> None:
        """Note that it went wrong."""
        if self._span is not None:
            _failed(self._span, code)

    def end(self, error: BaseException | None = None) -> None:
        """It is over; with `error` if that is why. Idempotent."""
        if self in _Process.open and self._span is not None:
            _Process.open.discard(self)
            self._note(error)
            self._span.end()

    def _note(self, error: BaseException | None) -> None:
        if error is not None and self._span is not None:
            _note(self._span, error)


def _begin(name: str, parent: "Span | None", *, client: bool = False, job: str | None = None) -> "Span | None":
    if _Process.tracing is None:
        return None
    from opentelemetry.context import Context
    from opentelemetry.trace import SpanKind, set_span_in_context

    from finetune.traces.sending import of_job

    # Never OpenTelemetry's own idea of what is current: a vendor's package would send it along.
    context = Context() if parent is None else set_span_in_context(parent, Context())
    token = of_job.set(job)
    try:
        return _Process.tracing.tracer.start_span(name, context, SpanKind.CLIENT if client else SpanKind.INTERNAL)
    finally:
        of_job.reset(token)


def _note(span: "Span", error: BaseException) -> None:
    if isinstance(error, FtError):
        _failed(span, error.problems[0].code)
    elif isinstance(error, Exception):
        _failed(span, type(error).__name__)
    else:
        # Somebody asked for the end.
        span.set_attribute("ft.interrupted", True)


def _failed(span: "Span", code: str) -> None:
    from opentelemetry.trace import StatusCode

    span.set_attribute("error.type", code)
    span.set_status(StatusCode.ERROR, code)


@contextmanager
def span(name: str, attributes: Attributes | None = None, *, client: bool = False) -> Iterator[None]:
    """A child of the present span, which is it inside the block. Nothing where there is none. See `Scope` for errors.

    `client`: another program does the work.
    """
    parent = _current.get()
    made = None if parent is None else _begin(name, parent, client=client)
    if made is None:
        yield
        return
    _put(made, attributes or {})
    token = _current.set(made)
    try:
        yield
    except BaseException as error:
        _note(made, error)
        raise
    finally:
        _current.reset(token)
        made.end()
