"""The trainer as it is started in earnest: a process, killed and interrupted and started again."""

import contextlib
import errno
import json
import os
import platform
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from finetune import files
from finetune.report import read
from finetune.training import __main__ as program
from tests.support import tiny
from tests.support.process import kill_group, wait_until

#: 10 rows in steps of 2: an epoch is 5 steps, so that kills fall inside epochs.
LONG = {"training__epochs": 12, "training__batch_size": 2, "lora__dropout": 0.1}
STEPS = 60


class Trainer:
    """One start of the trainer, with a report of its own, in a process group of its own."""

    def __init__(self, run_dir: Path, hash_seed: int = 0, processes: int = 1, **env: str) -> None:
        self.report = run_dir / f"report-{len(list(run_dir.glob('report-*.jsonl')))}.jsonl"
        self.log = self.report.with_suffix(".log")
        argv = [sys.executable, "-m", "finetune.training", run_dir, "--report", self.report, "--parent"]
        several = ["--processes", str(processes)] if processes > 1 else []
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*argv, str(os.getpid()), *several],
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONHASHSEED": str(hash_seed), **env},
                start_new_session=True,
            )
        self._seen: tuple[list[Any], int] = ([], 0)

    @property
    def lines(self) -> list[Any]:
        lines, offset = self._seen
        news, offset = read(self.report, offset)
        self._seen = (lines + news, offset)
        return self._seen[0]

    def of(self, kind: str) -> list[Any]:
        return [line for line in self.lines if line["kind"] == kind]

    def losses(self) -> dict[int, dict[str, float]]:
        """Losses by step; rates of work differ from run to run."""
        found: dict[int, dict[str, float]] = {}
        for line in self.of("metric"):
            values = {name: value for name, value in line["values"].items() if name != "tokens_per_s"}
            found.setdefault(line["step"], {}).update(values)
        return found

    def wait_for_step(self, step: int) -> None:
        wait_until(lambda: self.at() >= step or self.process.poll() is not None, 120, f"step {step}", 0.005)

    def at(self) -> int:
        return max(self.losses(), default=0)

    def wait(self) -> int:
        try:
            return self.process.wait(120)
        finally:
            kill_group(self.process.pid)
            self.process.wait()


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def whole(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trainer]:
    """The uninterrupted run, which all others are compared with."""
    run_dir = tmp_path_factory.mktemp("whole")
    tiny.request(run_dir, base, **LONG)
    trainer = Trainer(run_dir, hash_seed=1)
    assert trainer.wait() == 0, trainer.log.read_text()
    return trainer


def adapter(trainer: Trainer) -> dict[str, bytes]:
    folder = Path(trainer.of("done")[0]["artifact"]["path"])
    return {name: (folder / name).read_bytes() for name in files.ADAPTER_FILES}


def test_a_run_reports_what_it_did_and_what_it_made(whole: Trainer) -> None:
    *_, last = whole.lines
    assert last["kind"] == "done"
    assert last["artifact"]["peak_memory_bytes"] > 2**20, "libraries' own first steps alone take more"
    lineage = last["artifact"]["lineage"]
    assert lineage == json.loads((Path(last["artifact"]["path"]) / "lineage.json").read_text())
    assert {"run_key": "run-1", "recipe_digest": "r1", "data_digest": "d1", "seed": 7, "steps": STEPS}.items() <= (
        lineage.items()
    )
    assert lineage["base_revision"].startswith("sha256:")
    assert lineage["python"] == platform.python_version()
    assert {"ft", "torch", "transformers", "peft"} <= lineage.keys()
    assert all(isinstance(value, str | int) for value in lineage.values())
    assert last["artifact"]["digest"] == files.digest(Path(last["artifact"]["path"]))
    losses = whole.losses()
    assert sorted(losses) == list(range(1, STEPS + 1))
    assert [step for step, values in losses.items() if "eval_loss" in values] == list(range(5, STEPS + 1, 5))
    assert losses[STEPS]["loss"] < losses[1]["loss"] - 0.5
    progress = whole.of("metric")[-2]["progress"]
    assert (progress["step"], progress["total_steps"], progress["eta_s"]) == (STEPS, STEPS, 0)
    assert progress["tokens_per_s"] > 0


def test_the_same_request_gives_the_same_bytes_in_another_process(whole: Trainer, base: Path, tmp_path: Path) -> None:
    tiny.request(tmp_path, base, **LONG, run_key="another")
    again = Trainer(tmp_path, hash_seed=2)
    assert again.wait() == 0
    assert adapter(again) == adapter(whole)
    assert again.of("done")[0]["artifact"]["digest"] == whole.of("done")[0]["artifact"]["digest"]
    assert again.losses() == whole.losses()


def test_killed_and_interrupted_at_will_it_ends_with_the_same_bytes(whole: Trainer, base: Path, tmp_path: Path) -> None:
    """With dropout, inside epochs, before the first checkpoint, between checkpoints, and while they are written."""
    plan = [
        (3, signal.SIGKILL, 4),
        (9, signal.SIGKILL, 1),
        (18, signal.SIGTERM, None),
        (27, signal.SIGKILL, 7),
        (38, signal.SIGKILL, None),
    ]
    before = 0
    for number, (step, how, every) in enumerate(plan):
        tiny.request(tmp_path, base, **LONG, training__checkpoint_every=every)
        trainer = Trainer(tmp_path, hash_seed=number)
        trainer.wait_for_step(step)
        trainer.process.send_signal(how)
        assert trainer.wait() == (75 if how == signal.SIGTERM else -how)
        assert trainer.of("done") == trainer.of("failed") == []
        for at, values in trainer.losses().items():
            assert values.items() <= whole.losses()[at].items()
        if how == signal.SIGTERM:
            newest = max((tmp_path / "checkpoints").glob("step-*"))
            assert int(newest.name.removeprefix("step-")) == trainer.at() >= step
            assert f"interrupted after step {trainer.at()}" in trainer.lines[-1]["message"]
        if number == 3:
            # What was to be measured where it was interrupted is measured first.
            trained = [at for at, values in trainer.losses().items() if "loss" in values]
            assert min(trained) == before + 1, "it did not resume where it was interrupted"
        before = trainer.at()
    last = Trainer(tmp_path)
    assert last.wait() == 0, last.log.read_text()
    assert min(last.losses()) > 20
    assert any("resumed after step" in line["message"] for line in last.of("event"))
    assert adapter(last) == adapter(whole)


def test_started_again_after_the_end_it_makes_the_same_again(base: Path, tmp_path: Path) -> None:
    tiny.request(tmp_path, base)
    first = Trainer(tmp_path)
    assert first.wait() == 0
    second = Trainer(tmp_path)
    assert second.wait() == 0
    assert adapter(first) == adapter(second)
    assert list(second.losses().values()) == [{"eval_loss": first.losses()[6]["eval_loss"]}]


def test_changed_settings_start_from_the_beginning_and_say_so(base: Path, tmp_path: Path) -> None:
    tiny.request(tmp_path, base)
    assert Trainer(tmp_path).wait() == 0
    tiny.request(tmp_path, base, seed=8)
    other = Trainer(tmp_path)
    assert other.wait() == 0
    assert any("seed, settings differ" in line["message"] for line in other.of("event") if line["level"] == "warning")
    assert min(other.losses()) == 1


@pytest.mark.parametrize(
    ("changes", "code", "retry"),
    [
        ({"seed": -1}, "E600", False),
        ({"base_model": "nobody/nothing"}, "E606", True),
        ({"training__learning_rate": 1e30, "training__max_grad_norm": 0.0}, "E620", False),
    ],
)
def test_a_failure_is_told_and_no_traceback_with_it(
    base: Path, tmp_path: Path, changes: dict[str, Any], code: str, retry: bool
) -> None:
    tiny.request(tmp_path, base, **changes)
    trainer = Trainer(tmp_path)
    assert trainer.wait() == 1
    *_, last = trainer.lines
    assert (last["kind"], last["error"]["code"], last["retry"]) == ("failed", code, retry)
    assert last["error"]["what"]
    assert last["error"]["fix"]
    assert "Traceback" not in trainer.report.read_text()


def test_on_a_full_disk_it_asks_for_another_try_and_room_is_enough(base: Path, tmp_path: Path) -> None:
    tiny.request(tmp_path, base)
    code = (
        "import sys; from safetensors import SafetensorError; from finetune.training import __main__, checkpoint\n"
        "def full(*_): raise SafetensorError('I/O error: No space left on device (os error 28)')\n"
        "checkpoint.save_file = full\n"
        "sys.exit(__main__.main())"
    )
    told = tmp_path / "full.jsonl"
    argv = [sys.executable, "-c", code, tmp_path, "--report", told, "--parent", str(os.getpid())]
    assert subprocess.run(argv, check=False, stderr=subprocess.DEVNULL).returncode == 1
    failed = read(told, 0)[0][-1]
    assert (failed["kind"], failed["error"]["code"], failed["retry"]) == ("failed", "E622", True)
    assert "No space left on device" in failed["error"]["what"]
    assert Trainer(tmp_path).wait() == 0


def test_asked_to_stop_while_it_starts_it_stops(base: Path, tmp_path: Path) -> None:
    tiny.request(tmp_path, base)
    trainer = Trainer(tmp_path)
    wait_until(lambda: trainer.lines, 60, "the first line", 0.002)
    trainer.process.send_signal(signal.SIGTERM)
    assert trainer.wait() == 75
    assert [line["kind"] for line in trainer.lines] == ["event"]


def test_it_ends_with_its_parent(base: Path, tmp_path: Path) -> None:
    tiny.request(tmp_path, base, training__epochs=100_000)
    code = (
        "import os, subprocess, sys, signal\n"
        f"subprocess.Popen([sys.executable, '-m', 'finetune.training', {str(tmp_path)!r}, '--report',"
        f" {str(tmp_path / 'r')!r}, '--parent', str(os.getpid())])\n"
        "signal.pause()"
    )
    with (tmp_path / "log").open("wb") as log:
        parent = subprocess.Popen([sys.executable, "-c", code], stderr=log)
    with contextlib.ExitStack() as stack:
        stack.callback(parent.wait)
        stack.callback(parent.kill)
        wait_until(lambda: read(tmp_path / "r", 0)[0], 60, "the first line")
        (child,) = psutil.Process(parent.pid).children()
    wait_until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, 10, "the trainer's end")


def test_without_its_parent_it_does_not_start(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "finetune.training", tmp_path, "--report", tmp_path / "r", "--parent", "999999999"]
    assert subprocess.run(argv, check=False).returncode == 1
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(
    ("error", "code", "said", "retry"),
    [
        (LookupError("deep down"), "E699", "LookupError: deep down", False),
        # The report itself could not be written on.
        (OSError(errno.ENOSPC, "No space left on device"), "E622", "No space left", True),
    ],
)
def test_what_nobody_foresaw_is_told_without_a_traceback(
    base: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    error: Exception,
    code: str,
    said: str,
    retry: bool,
) -> None:
    tiny.request(tmp_path, base)

    def broken(*_: object) -> None:
        raise error

    monkeypatch.setattr("finetune.training.trainer.train", broken)
    monkeypatch.setattr("finetune.training.stop.Stop.install", lambda _: None)
    monkeypatch.setattr("finetune.training.__main__.die_with_parent", lambda _: None)
    assert program.main([str(tmp_path), "--report", str(tmp_path / "r"), "--parent", "1"]) == 1
    failed = read(tmp_path / "r", 0)[0][-1]
    assert (failed["error"]["code"], failed["retry"]) == (code, retry)
    assert said in failed["error"]["what"]
    assert "Traceback" in capfd.readouterr().err
