"""One evaluation as a process of its own: reads `request.json`, writes `result.json` whole or not at all."""

import json
import pkgutil
import time
import traceback
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune.errors import EvaluationError, FtError, Problem
from finetune.evaluation import harness, request, suites
from finetune.evaluation.endpoint import Address, Endpoint
from finetune.evaluation.evaluate import Ways, evaluate
from finetune.evaluation.faults import fault, needed
from finetune.evaluation.metrics import METRICS
from finetune.evaluation.models import Model
from finetune.evaluation.report import Report
from finetune.evaluation.request import Adapter, HeldOut, Named, Request, Served
from finetune.evaluation.suites import HARNESS, Suite
from finetune.files import write_whole
from finetune.report import Reporter

if TYPE_CHECKING:
    from finetune.evaluation.local import Parts, Weights

RESULT = "result.json"


def run(folder: Path, report: Path, parts: str | None) -> int:
    """Evaluate what `folder/request.json` asks for; returns the exit code. Blocks.

    0: `folder/result.json` is there, and `done` is the report's last line. 1: it is not, and `failed` is. `parts` names
    a function of the cache's folder to `local.Parts`, `module:function`; None: endpoints only. Idempotent.
    """
    with closing(Reporter(report)) as reporter:
        try:
            reporter.event("evaluation started")
            asked = request.read(folder / "request.json")
            result = _evaluated(asked, parts, reporter.event)
            write_whole(folder / RESULT, json.dumps(result, allow_nan=False, indent=1))
        except FtError as error:
            reporter.failed(error)
            return 1
        except Exception as error:  # noqa: BLE001 - the last line of defence: no traceback reaches a user
            traceback.print_exc()
            reporter.failed(_unexpected(error))
            return 1
        reporter.done(result=str(folder / RESULT))
        return 0


def reports_of(result: Path) -> list[Report]:
    """The reports in a result file, in the order of the request's suites. Raises EvaluationError (E856)."""
    try:
        body = json.loads(result.read_text(encoding="utf-8"))
        return [Report.from_json(each) for each in body["reports"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise fault("E856", f"the evaluation's result cannot be read: {error}", file=str(result)) from error


def _evaluated(asked: Request, parts: str | None, say: Callable[[str], None]) -> dict[str, Any]:
    started = time.monotonic()
    # Before models are loaded: what is malformed should be told at once.
    read = [_suite(each, asked) for each in asked.suites]
    with ExitStack() as opened:
        models = _Models(asked, parts, say, opened)
        judge = models.endpoint(asked.judge) if asked.judge else None
        ways = Ways(seed=asked.seed, sample_size=asked.sample_size, judge=judge, say=say)
        tuned, other = models.of(asked.tuned), models.of(asked.other)
        own = iter(evaluate([each for each in read if isinstance(each, Suite)], tuned, other, ways))
        reports = [next(own) if isinstance(each, Suite) else harness.run(each, tuned, other, ways) for each in read]
    return {
        "reports": [report.to_json() for report in reports],
        "base_model": asked.base_model,
        "seconds": round(time.monotonic() - started, 3),
    }


def _suite(asked: HeldOut | Named, whole: Request) -> Suite | harness.Task:
    if isinstance(asked, HeldOut):
        found = suites.held_out(asked.path, asked.metrics, asked.max_tokens)
        kept = found if asked.metrics else _measurable(found, whole)
        return replace(kept, metrics=tuple(dict.fromkeys((*kept.metrics, *suites.checked(asked.also)))))
    if asked.name.startswith(HARNESS):
        return harness.Task(name=asked.name.removeprefix(HARNESS), include=asked.include, chat=asked.chat)
    return replace(suites.load(asked.name, whole.suites_dir), source=asked.label or asked.name)


def _measurable(found: Suite, asked: Request) -> Suite:
    """Without the metrics that nobody has asked for and one of the models cannot have."""
    if not any(isinstance(each, Served) for each in (asked.tuned, asked.other)):
        return found
    kept = tuple(name for name in found.metrics if METRICS[name].needs != "losses")
    return replace(found, metrics=kept)


class _Models:
    """Models as the request names them; weights are loaded when the first of them is asked for."""

    def __init__(self, asked: Request, parts: str | None, say: Callable[[str], None], opened: ExitStack) -> None:
        self._asked, self._parts, self._say, self._opened = asked, parts, say, opened
        self._weights: Weights | None = None

    def of(self, subject: request.Base | Adapter | Served) -> Model:
        """The model. Blocks while a base is loaded."""
        if isinstance(subject, Served):
            return Model(name=subject.name, answerer=self.endpoint(subject))
        weights = self._loaded()
        if isinstance(subject, Adapter):
            return weights.adapter(subject.name, subject.path)
        return weights.base(subject.name)

    def endpoint(self, at: Served) -> Endpoint:
        """A model behind an address; closed in the end."""
        address = Address(base_url=at.base_url, model=at.model, key_env=at.key_env)
        return self._opened.enter_context(Endpoint(address, concurrency=at.concurrency))

    def _loaded(self) -> "Weights":
        if self._weights is None:
            from finetune.evaluation.local import Weights

            assert self._asked.base_model is not None
            self._weights = Weights(self._asked.base_model, self._joined(), self._say)
        return self._weights

    def _joined(self) -> "Parts":
        if self._parts is None:
            raise fault(
                "E856",
                "this evaluation was started without what loads models",
                "it was asked for a model whose weights are on this machine",
                "start it through `ft`",
            )
        made: Parts = needed(
            lambda: pkgutil.resolve_name(str(self._parts))(self._asked.cache), "ft-orchestrator[local]"
        )
        return made


def _unexpected(error: Exception) -> FtError:
    return EvaluationError(
        Problem(
            code="E859",
            what=f"the evaluation failed unexpectedly: {type(error).__name__}: {str(error).strip()[:300]}",
            why="this is a fault in ft, or in a library under it",
            fix="see the evaluation's log; please report it with that log",
        )
    )
