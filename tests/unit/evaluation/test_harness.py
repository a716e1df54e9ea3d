"""What is taken from lm-evaluation-harness's log. The real package: tests/flow/evaluation/lm_eval_proof.py."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from finetune.errors import EvaluationError
from finetune.evaluation import harness
from finetune.evaluation.evaluate import Ways
from finetune.evaluation.report import Report
from tests.unit.evaluation.making import model


def log(**changes: Any) -> dict[str, Any]:
    """As lm-eval 0.4.13 returns it for a task with two filters, shortened."""

    def row(doc: int, sieve: str, exact: float) -> dict[str, Any]:
        hashes = {"doc_hash": f"d{doc}", "prompt_hash": f"p{doc}"}
        return {"doc_id": doc, "filter": sieve, "exact_match": exact, "acc": exact, "bits": (1.0, 2), **hashes}

    rows = [row(0, "strict", 1.0), row(1, "strict", 0.0), row(0, "loose", 1.0), row(1, "loose", 1.0)]
    return {
        "samples": {"t": rows},
        "higher_is_better": {"t": {"exact_match": True, "acc": False, "bits": False}},
        "results": {
            "t": {
                "alias": "t",
                "exact_match,strict": 0.5,
                "exact_match,loose": 1.0,
                # No mean of its rows.
                "acc,strict": 0.7,
                "acc,loose": 1.0,
                "bits,strict": 0.3,
            }
        },
        **changes,
    }


def test_scores_are_taken_by_row_and_filter_where_they_are_means() -> None:
    read = harness._read(log())
    assert {name: list(values.values()) for name, values in read.scores.items()} == {
        "exact_match:strict": [1.0, 0.0],
        "exact_match:loose": [1.0, 1.0],
        "acc:loose": [1.0, 1.0],
    }
    assert read.higher == {"exact_match:strict": True, "exact_match:loose": True, "acc:loose": False}


def test_the_digest_is_of_documents_and_prompts_and_not_of_answers() -> None:
    other = log()
    other["samples"]["t"][0]["exact_match"] = 0.0
    assert harness._read(other).digest == harness._read(log()).digest
    other["samples"]["t"][0]["prompt_hash"] = "another"
    assert harness._read(other).digest != harness._read(log()).digest


def test_hosted_models_have_no_harness() -> None:
    with pytest.raises(EvaluationError, match="E857"):
        harness.run(harness.Task(name="arc_easy"), model("a", {}), model("b", {}), Ways())


def test_without_the_package_it_says_what_to_install() -> None:
    program = """
import sys
sys.modules["lm_eval"] = None
from contextlib import nullcontext
from finetune.errors import EvaluationError
from finetune.evaluation import harness
from finetune.evaluation.evaluate import Ways
from finetune.evaluation.models import FakeAnswerer, Model
one = Model(name="a", answerer=FakeAnswerer({}), weights=lambda: nullcontext((None, None)))
try:
    harness.run(harness.Task(name="arc_easy"), one, one, Ways())
except EvaluationError as error:
    print(error.problems[0].code, error.problems[0].fix)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("E853 pip install 'ft-orchestrator[lm-eval]'\n", "")


STAND_IN = """
def simple_evaluate(model, tasks, limit, random_seed, log_samples, bootstrap_iters, **rest):
    if tasks == ["arc_eazy"]:
        raise KeyError("no such task\\n  arc_eazy")
    print("a table that nobody has asked for")
    assert (limit, random_seed, log_samples, bootstrap_iters) == (2, 7, True, 0)
    values = {"tuned": [1.0, 1.0], "base": [0.0, 1.0]}[model]
    rows = [
        {"doc_id": i, "filter": "none", "acc": value, "doc_hash": str(i), "prompt_hash": str(i)}
        for i, value in enumerate(values)
    ]
    return {
        "samples": {tasks[0]: rows},
        "higher_is_better": {tasks[0]: {"acc": True}},
        "results": {tasks[0]: {"acc,none": sum(values) / 2}},
    }
"""
PROGRAM = """
import json
from contextlib import nullcontext
from finetune.errors import EvaluationError
from finetune.evaluation import harness
from finetune.evaluation.evaluate import Ways
from finetune.evaluation.models import FakeAnswerer, Model
tuned, base = (
    Model(name=name, answerer=FakeAnswerer({}), weights=lambda name=name: nullcontext((name, None)))
    for name in ("tuned", "base")
)
ways = Ways(seed=7, sample_size=2)
print(json.dumps(harness.run(harness.Task(name="arc_easy"), tuned, base, ways).to_json()))
try:
    harness.run(harness.Task(name="arc_eazy"), tuned, base, ways)
except EvaluationError as error:
    print(json.dumps(error.problems[0].brief))
"""


def test_a_report_of_two_models_and_what_is_said_of_a_failure(tmp_path: Path) -> None:
    """In a process of its own, with a stand-in for the package."""
    package = tmp_path / "lm_eval"
    (package / "models").mkdir(parents=True)
    (package / "__init__.py").write_text(STAND_IN)
    (package / "tasks.py").write_text("def TaskManager(include_path):\n    return include_path\n")
    (package / "models" / "__init__.py").write_text("")
    (package / "models" / "huggingface.py").write_text("def HFLM(pretrained, **rest):\n    return pretrained\n")
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    env = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, env=env)
    assert done.returncode == 0, done.stderr
    made, refused = (json.loads(line) for line in done.stdout.splitlines())
    report = Report.from_json(made)
    (found,) = report.outcomes
    assert (report.suite, report.n, found.metric) == ("lm-eval:arc_easy", 2, "acc")
    assert (found.tuned.value, found.other.value, found.gain.value) == (1.0, 0.5, 0.5)
    assert (refused["code"], refused["why"]) == ("E858", "KeyError: 'no such task\\n arc_eazy'")
