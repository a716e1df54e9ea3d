"""What records spans and sends them by OTLP over HTTP. The only place that knows OpenTelemetry's SDK."""

import hashlib
import logging
import os
import threading
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import Final

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.id_generator import IdGenerator

from finetune import __version__

#: How long the end of a process may wait for its last spans to be taken, seconds.
FLUSH_S: Final = 1.0

#: The job whose own trace a span without a parent belongs to; None: a trace with an id by chance.
of_job: ContextVar[str | None] = ContextVar("of_job", default=None)
#: Spans that have ended, held back until it is known whether their step was worth telling; None: nothing is held back.
held: ContextVar[list[ReadableSpan] | None] = ContextVar("held", default=None)


class Tracing:
    """Records and sends in this process. Raises ValueError for a variable that cannot be read.

    Its tracer is never made the process's own: the vendors' packages would write prompts and rows into its spans.
    """

    def __init__(self, lost: Callable[[str], None], instance: str | None) -> None:
        """`lost` is told why spans are lost, for each batch; `instance` names this process."""
        own = {"service.name": "ft", "service.version": __version__}
        if instance:
            own["service.instance.id"] = instance
        # What the user says of the process goes first.
        resource = Resource.create({**own, **OTELResourceDetector().detect().attributes})
        self._processor = _Processor(_Exporter(lost))
        self._provider = TracerProvider(resource=resource, id_generator=_Ids(), shutdown_on_exit=False)
        self._provider.add_span_processor(self._processor)
        self.tracer = self._provider.get_tracer("finetune")
        # It would write a traceback for each batch that is not taken.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)

    def send(self, spans: Sequence[ReadableSpan]) -> None:
        """Send what was held back. Does not block."""
        for each in spans:
            self._processor.on_end(each)

    def close(self) -> bool:
        """Send what is left; True if that took no longer than `FLUSH_S`."""
        # A collector that takes the connection and is silent holds its sender for as long as the exporter's time-out.
        thread = threading.Thread(target=self._provider.shutdown, name="last spans", daemon=True)
        thread.start()
        thread.join(FLUSH_S)
        return not thread.is_alive()


class _Ids(IdGenerator):
    """Ids by chance, of the system's own: Python's generator may have been seeded by a training.

    A job that was submitted untraced has a trace all the same: every worker finds the same id for it.
    """

    def generate_span_id(self) -> int:
        return int.from_bytes(os.urandom(8)) or 1

    def generate_trace_id(self) -> int:
        job = of_job.get()
        return int.from_bytes(hashlib.sha256(job.encode()).digest()[:16] if job else os.urandom(16)) or 1


class _Processor(BatchSpanProcessor):
    """Holds back the spans of a step."""

    def on_end(self, span: ReadableSpan) -> None:
        waiting = held.get()
        if waiting is None:
            super().on_end(span)
        else:
            waiting.append(span)


class _Exporter(OTLPSpanExporter):
    """Tells when the collector does not take what it is sent."""

    def __init__(self, lost: Callable[[str], None]) -> None:
        super().__init__()
        self._lost = lost

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        try:
            result = super().export(spans)
        except Exception as error:  # noqa: BLE001 -- whatever the network does
            self._lost(f"the collector cannot be reached ({type(error).__name__})")
            return SpanExportResult.FAILURE
        if result is not SpanExportResult.SUCCESS:
            self._lost("the collector does not take them")
        return result
