"""lm-evaluation-harness tasks, by name: `lm-eval:arc_easy`. Needs the extra `lm-eval` and the weights.

The package asks, filters and scores; from its log we take each row's scores, so that intervals and paired gains are
ours. A score whose mean over rows is not the figure that the package itself gives is left out.
"""

import contextlib
import hashlib
import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from finetune.errors import FtError
from finetune.evaluation.evaluate import Ways
from finetune.evaluation.faults import fault, needed
from finetune.evaluation.figures import Figures, outcome
from finetune.evaluation.intervals import Bounds
from finetune.evaluation.metrics import Metric
from finetune.evaluation.models import Model
from finetune.evaluation.report import Outcome, Report
from finetune.evaluation.suites import HARNESS
from finetune.jobs import Json

_CHECKED: Final = 1e-6
#: (subtask, document, filter), which is one row of one score.
_Key = tuple[str, int, str]


@dataclass(frozen=True, kw_only=True)
class Task:
    """A task of the harness, or a group of tasks."""

    #: As `lm-eval ls tasks` prints it.
    name: str
    #: A folder with tasks of one's own in the harness's YAML; None: those that it comes with.
    include: Path | None = None
    #: Write prompts by the model's chat template.
    chat: bool = False

    @property
    def suite(self) -> str:
        """Its name as a suite."""
        return f"{HARNESS}{self.name}"


@dataclass(frozen=True, kw_only=True)
class _Run:
    """What the harness found for one model."""

    #: Scores by name, then by row.
    scores: Mapping[str, Mapping[_Key, float]]
    higher: Mapping[str, bool]
    digest: str


def run(task: Task, tuned: Model, other: Model, ways: Ways) -> Report:
    """Have both models do the task: its first `sample_size` documents. Blocks; may download the task's data.

    Raises EvaluationError: E853 (the package is missing), E857 (a model without weights here), E858 (the harness
    failed, or has no score that is a mean over rows).
    """
    started = ways.clock()
    runs = []
    for model in (tuned, other):
        ways.say(f"{task.suite}: asking {model.name}")
        runs.append(_run(task, model, ways))
    if runs[0].digest != runs[1].digest:
        raise fault("E858", f"{task.suite} has asked the two models different things", fix="set `chat: false`")
    shared = [name for name in runs[0].scores if name in runs[1].scores]
    if not shared:
        raise fault("E858", f"{task.suite} has no score that is a mean over rows", fix="choose another task")
    return Report(
        suite=task.suite,
        digest=runs[0].digest,
        n=max(len(runs[0].scores[name]) for name in shared),
        tuned=tuned.name,
        other=other.name,
        outcomes=tuple(_outcome(name, runs[0], runs[1], ways.seed) for name in shared),
        seed=ways.seed,
        seconds=round(ways.clock() - started, 3),
    )


def _outcome(name: str, tuned: _Run, other: _Run, seed: int) -> Outcome:
    first, second = tuned.scores[name], other.scores[name]
    keys = sorted(first.keys() & second.keys())
    figures = Figures(tuned=[first[key] for key in keys], other=[second[key] for key in keys])
    within = all(0 <= value <= 1 for value in [*figures.tuned, *figures.other])
    metric = Metric(
        name=name,
        doc="A score of lm-evaluation-harness.",
        unit="the harness's",
        needs="answers",
        higher_is_better=tuned.higher[name],
        bounds=Bounds(0.0, 1.0) if within else None,
    )
    return outcome(metric, figures, seed)


def _run(task: Task, model: Model, ways: Ways) -> _Run:
    if model.weights is None:
        raise fault(
            "E857",
            f"{task.suite} cannot be measured of {model.name}",
            "the harness asks for the probability of each token, which only weights on this machine tell",
            "leave the suite out, or evaluate the weights themselves",
        )
    package = needed(_package, "ft-orchestrator[lm-eval]")
    said = io.StringIO()
    with model.weights() as (weights, tokenizer):
        try:
            # It prints tables and bars.
            with contextlib.redirect_stdout(said):
                found = package.simple_evaluate(weights, tokenizer, task, ways)
        except FtError:
            raise
        except Exception as error:
            raise fault(
                "E858",
                f"lm-evaluation-harness failed on {task.name}",
                f"{type(error).__name__}: {' '.join(str(error).split())[:300]}",
                "`lm-eval ls tasks` prints its tasks; their data comes from the Hugging Face hub",
            ) from error
    return _read(found)


@dataclass(frozen=True)
class _Package:
    lm_eval: Any
    model_of: Callable[..., Any]
    manager_of: Callable[..., Any]

    def simple_evaluate(self, weights: Any, tokenizer: Any, task: Task, ways: Ways) -> Json:
        manager = self.manager_of(include_path=str(task.include) if task.include else None)
        model = self.model_of(pretrained=weights, tokenizer=tokenizer, backend="causal", batch_size=8)
        found: Json = self.lm_eval.simple_evaluate(
            model=model,
            tasks=[task.name],
            task_manager=manager,
            limit=ways.sample_size,
            log_samples=True,
            apply_chat_template=task.chat,
            # Our intervals are ours.
            bootstrap_iters=0,
            random_seed=ways.seed,
            numpy_random_seed=ways.seed,
            torch_random_seed=ways.seed,
            fewshot_random_seed=ways.seed,
        )
        return found


def _package() -> _Package:
    from importlib import import_module

    lm_eval = import_module("lm_eval")
    model = import_module("lm_eval.models.huggingface").HFLM
    return _Package(lm_eval, model, import_module("lm_eval.tasks").TaskManager)


def _read(found: Mapping[str, Any]) -> _Run:
    scores: dict[str, dict[_Key, float]] = {}
    higher: dict[str, bool] = {}
    total = hashlib.sha256()
    for subtask, rows in sorted(found["samples"].items()):
        for row in sorted(rows, key=lambda each: (each["doc_id"], str(each.get("filter")))):
            total.update(f"{subtask} {row['doc_id']} {row['doc_hash']} {row['prompt_hash']}\n".encode())
        ways = found["higher_is_better"].get(subtask) or {}
        for metric, better in ways.items():
            for name, values in _by_filter(subtask, metric, rows).items():
                if _is_mean(found["results"].get(subtask, {}), metric, values):
                    scores.setdefault(name, {}).update(values)
                    higher[name] = better is not False
    return _Run(scores=scores, higher=higher, digest=total.hexdigest())


def _by_filter(subtask: str, metric: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[_Key, float]]:
    """This metric's values by the score's name: a task may read the same answers by several filters."""
    out: dict[str, dict[_Key, float]] = {}
    for row in rows:
        value, sieve = row.get(metric), str(row.get("filter", "none"))
        if isinstance(value, int | float):
            name = metric if sieve == "none" else f"{metric}:{sieve}"
            out.setdefault(name, {})[(subtask, int(row["doc_id"]), sieve)] = float(value)
    return out


def _is_mean(results: Mapping[str, Any], metric: str, values: Mapping[_Key, float]) -> bool:
    sieve = next(iter(values))[2]
    given = results.get(f"{metric},{sieve}")
    mean = math.fsum(values.values()) / len(values)
    return isinstance(given, int | float) and abs(given - mean) <= _CHECKED * max(1.0, abs(mean))
