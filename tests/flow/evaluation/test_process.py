"""The evaluation as workers start it: a process, with a request, a report and a result that is whole or not there."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from finetune.errors import EvaluationError
from finetune.evaluation.child import RESULT, reports_of
from tests.support.process import kill_group, wait_until
from tests.unit.evaluation.chats import chats, completion

PARTS = "finetune.wiring.releases:evaluation_parts"


def ask(folder: Path, **changes: Any) -> Path:
    body: dict[str, Any] = {
        "base_model": None,
        "tuned": {"kind": "base"},
        "other": {"kind": "base"},
        "suites": [],
        "seed": 1,
        "cache": str(folder / "cache"),
        **changes,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "request.json").write_text(json.dumps(body))
    return folder


def command(folder: Path, parent: int, parts: str | None = PARTS) -> list[str]:
    more = ["--parts", parts] if parts else []
    return [sys.executable, "-m", "finetune.evaluation", str(folder), "--parent", str(parent), *more]


def start(folder: Path, parts: str | None = PARTS, **env: str) -> tuple[int, list[dict[str, Any]], str]:
    """Exit code, the lines of the report, and what it said besides."""
    argv = command(folder, os.getpid(), parts)
    whole = {**os.environ, "OMP_NUM_THREADS": "1", **env}
    done = subprocess.run(argv, env=whole, capture_output=True, text=True, timeout=120)
    assert done.stdout == ""
    lines = [json.loads(line) for line in (folder / "report.jsonl").read_text().splitlines()]
    return done.returncode, lines, done.stderr


def endpoint(url: str, name: str) -> dict[str, Any]:
    return {"kind": "endpoint", "name": name, "base_url": url, "model": name, "key_env": "THE_KEY"}


def test_base_and_tuned_on_two_suites(base: Path, run_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "short.yaml").write_text(
        f"rows: {run_dir / 'train.jsonl'}\nmetrics: [contains, loss]\nmax_tokens: 8\nname: short\n"
    )
    folder = ask(
        tmp_path / "eval",
        base_model=str(base),
        tuned={"kind": "adapter", "name": "bot@v1", "path": str(run_dir / "adapter")},
        suites=[
            {"kind": "held_out", "path": str(run_dir / "validation.jsonl")},
            {"kind": "suite", "name": "short", "label": "../short.yaml"},
        ],
        suites_dir=str(tmp_path),
        sample_size=6,
    )
    code, lines, said = start(folder)
    assert code == 0, (lines, said)
    held_out, short = reports_of(folder / RESULT)
    assert (held_out.suite, held_out.n, held_out.tuned, held_out.other) == ("held-out", 2, "bot@v1", str(base))
    assert [found.metric for found in held_out.outcomes] == [
        "exact_match", "token_f1", "rouge_l", "loss", "perplexity",
    ]  # fmt: skip
    assert held_out.outcomes[0].gain.value == 1
    assert (short.suite, short.source, short.n, short.seed) == ("short", "../short.yaml", 6, 1)
    assert lines[-1] == {"at": lines[-1]["at"], "kind": "done", "result": str(folder / RESULT)}
    assert {line["kind"] for line in lines[:-1]} == {"event"}
    # Asked again it says the same, but for how long it took.
    code, lines, _ = start(folder)
    again = reports_of(folder / RESULT)
    assert (code, [report.outcomes for report in again]) == (0, [held_out.outcomes, short.outcomes])
    assert [line["kind"] for line in lines].count("done") == 2


def test_two_endpoints_need_nothing_that_loads_models(run_dir: Path, tmp_path: Path) -> None:
    def rule(body: dict[str, Any]) -> tuple[int, Any]:
        return 200, completion("yes, one" if body["model"] == "tuned" else "no")

    with chats(rule) as server:
        folder = ask(
            tmp_path,
            tuned=endpoint(server.url, "tuned"),
            other=endpoint(server.url, "plain"),
            suites=[{"kind": "held_out", "path": str(run_dir / "validation.jsonl")}],
        )
        code, lines, said = start(folder, None, THE_KEY="k")
    assert code == 0, (lines, said)
    (report,) = reports_of(folder / RESULT)
    assert [found.metric for found in report.outcomes] == ["exact_match", "token_f1", "rouge_l"]
    assert report.outcomes[0].tuned.value == 0.5
    assert (report.golden[0].tuned, report.golden[0].other) == ("yes, one", "no")


@pytest.mark.parametrize(
    ("changes", "parts", "code", "said"),
    [
        ({"suites": []}, PARTS, "E856", "suites"),
        ({"seed": "1"}, PARTS, "E856", "seed"),
        ({"tuned": {"kind": "adapter", "name": "x"}}, PARTS, "E856", "tuned"),
        ({"surprise": 1}, PARTS, "E856", "surprise"),
        ({"base_model": None}, PARTS, "E856", "base_model"),
        ({}, None, "E856", "without what loads models"),
        ({"suites": [{"kind": "suite", "name": "no-such"}]}, PARTS, "E851", "no-such"),
        ({"base_model": "builtin:none"}, PARTS, "E602", "builtin:none"),
        ({"tuned": {"kind": "adapter", "name": "x", "path": "nowhere"}}, PARTS, "E751", "nowhere"),
        ({}, "finetune.wiring.releases:nobody", "E859", "nobody"),
    ],
)
def test_what_cannot_be_done_is_told_in_the_report_and_leaves_no_result(
    base: Path, run_dir: Path, tmp_path: Path, changes: dict[str, Any], parts: str | None, code: str, said: str
) -> None:
    rows = {"kind": "held_out", "path": str(run_dir / "validation.jsonl")}
    folder = ask(tmp_path, **{"base_model": str(base), "suites": [rows], **changes})
    (folder / "report.jsonl").write_text('{"half a li')
    argv = command(folder, os.getpid(), parts)
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    first, *lines = (folder / "report.jsonl").read_text().splitlines()
    assert first == '{"half a li'
    last = json.loads(lines[-1])
    assert (last["kind"], last["error"]["code"], last["retry"]) == ("failed", code, False)
    assert said in last["error"]["what"]
    assert not (folder / RESULT).exists()
    with pytest.raises(EvaluationError, match="E856"):
        reports_of(folder / RESULT)
    assert ("Traceback" in done.stderr) == (code == "E859")


@contextmanager
def hanging(run_dir: Path, tmp_path: Path) -> Iterator[tuple[Path, threading.Event]]:
    """A request about a model that does not answer, and whether it has been asked."""
    asked, over = threading.Event(), threading.Event()

    def rule(body: dict[str, Any]) -> tuple[int, Any]:
        asked.set()
        over.wait(60)
        return 200, completion("late")

    with chats(rule) as server:
        try:
            rows = {"kind": "held_out", "path": str(run_dir / "validation.jsonl"), "metrics": ["exact_match"]}
            subject = endpoint(server.url, "m")
            yield ask(tmp_path / "hangs", tuned=subject, other=subject, suites=[rows]), asked
        finally:
            over.set()


def test_it_ends_when_its_parent_dies(run_dir: Path, tmp_path: Path) -> None:
    program = "import subprocess, sys, os; a = sys.argv[1:]; a[5] = str(os.getpid()); subprocess.Popen(a).wait()"
    with hanging(run_dir, tmp_path) as (folder, asked):
        argv = [sys.executable, "-c", program, *command(folder, 0, None)]
        parent = subprocess.Popen(argv, env={**os.environ, "THE_KEY": "k"}, start_new_session=True)
        try:
            wait_until(asked.is_set, 60, "the first question")
            (child,) = psutil.Process(parent.pid).children()
            parent.kill()
            parent.wait()
            wait_until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, 20, "its end")
        finally:
            kill_group(parent.pid)
            parent.wait()
    assert not (folder / RESULT).exists()
    assert [json.loads(line)["kind"] for line in (folder / "report.jsonl").read_text().splitlines()] == ["event"] * 2


def test_it_does_not_begin_for_a_parent_that_is_gone(run_dir: Path, tmp_path: Path) -> None:
    folder = ask(tmp_path, suites=[{"kind": "held_out", "path": str(run_dir / "validation.jsonl")}])
    done = subprocess.run(command(folder, 1), capture_output=True, text=True, timeout=60)
    assert (done.returncode, (folder / "report.jsonl").exists()) == (1, False)


def test_who_starts_it_and_reads_the_result_loads_nothing_heavy() -> None:
    program = """
import sys
import finetune.evaluation.child, finetune.evaluation.gates, finetune.evaluation.request
print(*sorted({"torch", "transformers", "peft", "openai", "numpy", "lm_eval", "jsonschema"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("\n", "")
