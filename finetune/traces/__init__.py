"""Traces by OpenTelemetry: of submits, of the steps of jobs, of trainings. docs/traces.md says what is in them.

Nothing happens here, and nothing of OpenTelemetry is imported, unless the standard variables ask for it. `spans` has
what a span is to the rest of ft, `work` those of workers, `sending` all that knows OpenTelemetry's SDK.
"""

from finetune.traces.spans import Scope, header, running, span, tell
from finetune.traces.work import advancing, calls, environment, steps, training

__all__ = ["Scope", "advancing", "calls", "environment", "header", "running", "span", "steps", "tell", "training"]
