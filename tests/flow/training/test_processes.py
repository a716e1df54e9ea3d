"""One training in two processes, as it is started in earnest: killed, interrupted, broken, and started again."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file

from finetune.process import group_members
from tests.flow.training.test_trainer_process import Trainer, adapter
from tests.support import tiny
from tests.support.process import wait_until

#: 10 rows in steps of 3: the last step of an epoch has one row, and leaves a process with nothing to do.
ASKED = {"training__epochs": 9, "training__batch_size": 3}
STEPS = 36


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def whole(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trainer]:
    """The uninterrupted run with dropout in two processes."""
    run_dir = tmp_path_factory.mktemp("whole")
    tiny.request(run_dir, base, **ASKED, lora__dropout=0.1)
    trainer = Trainer(run_dir, hash_seed=1, processes=2)
    assert trainer.wait() == 0, trainer.log.read_text()
    return trainer


def ranks(launcher: int) -> list[psutil.Process]:
    """The training processes, rank 0 first. The launcher's other child looks after multiprocessing's semaphores."""
    children = psutil.Process(launcher).children()
    found = [child for child in children if "--multiprocessing-fork" in child.cmdline()]
    return sorted(found, key=lambda child: (child.create_time(), child.pid))


def steps(trainer: Trainer) -> list[int]:
    return [line["step"] for line in trainer.of("metric") if "loss" in line["values"]]


def listens(process: psutil.Process) -> set[str]:
    return {each.laddr.ip for each in process.net_connections("inet") if each.status == psutil.CONN_LISTEN}


def test_each_step_is_reported_once_and_the_adapter_says_who_made_it(whole: Trainer) -> None:
    assert steps(whole) == list(range(1, STEPS + 1))
    evaluated = [line["step"] for line in whole.of("metric") if "eval_loss" in line["values"]]
    assert evaluated == list(range(4, STEPS + 1, 4))
    *_, last = whole.lines
    assert last["kind"] == "done"
    assert last["artifact"]["lineage"]["processes"] == 2
    (told,) = [line["message"] for line in whole.of("event") if line["message"].startswith("training ")]
    assert "2 x cpu with 1 threads each" in told
    assert whole.losses()[STEPS]["loss"] < whole.losses()[1]["loss"] - 0.5


def test_killed_and_interrupted_at_will_it_ends_with_the_same_bytes(whole: Trainer, base: Path, tmp_path: Path) -> None:
    tiny.request(tmp_path, base, **ASKED, lora__dropout=0.1, training__checkpoint_every=2)

    # A lack of memory takes one process; the launcher counts as dead, and nobody is left.
    trainer = Trainer(tmp_path, processes=2)
    trainer.wait_for_step(5)
    first, second = ranks(trainer.process.pid)
    assert listens(psutil.Process(trainer.process.pid)) | listens(first) | listens(second) <= {"127.0.0.1", "::1"}
    second.kill()
    assert trainer.process.wait(20) == 128 + signal.SIGKILL
    # The kernel ends them when it has ended the launcher.
    wait_until(lambda: group_members(trainer.process.pid) == [], 10, "the end of all processes")
    assert trainer.of("failed") == trainer.of("done") == []
    assert "process 1 of the training was killed by signal 9" in trainer.lines[-1]["message"]

    # Asked to stop, they save what all of them have done.
    trainer = Trainer(tmp_path, processes=2)
    trainer.wait_for_step(20)
    os.killpg(trainer.process.pid, signal.SIGTERM)
    assert trainer.wait() == 75, trainer.log.read_text()
    assert trainer.of("failed") == []
    newest = max((tmp_path / "checkpoints").glob("step-*"))
    assert int(newest.name.removeprefix("step-")) == trainer.at() >= 20
    assert f"interrupted after step {trainer.at()}" in trainer.lines[-1]["message"]
    assert steps(trainer)[0] >= 5, "it did not go on from a checkpoint"
    for at, values in trainer.losses().items():
        assert values.items() <= whole.losses()[at].items()

    last = Trainer(tmp_path, hash_seed=2, processes=2)
    assert last.wait() == 0, last.log.read_text()
    assert steps(last)[0] == trainer.at() + 1
    assert adapter(last) == adapter(whole)


def test_they_all_end_with_the_worker(base: Path, tmp_path: Path) -> None:
    """The kernel ends the launcher, by SIGKILL, and with it the others."""
    tiny.request(tmp_path, base, **ASKED | {"training__epochs": 100_000})
    told = tmp_path / "orphan.jsonl"
    argv = ["-m", "finetune.training", str(tmp_path), "--report", str(told), "--processes", "2"]
    code = (
        "import os, subprocess, sys, signal\n"
        f"child = subprocess.Popen([sys.executable, *{argv!r}, '--parent', str(os.getpid())], start_new_session=True)\n"
        "print(child.pid, flush=True)\n"
        "signal.pause()"
    )
    with tempfile.TemporaryFile() as log:
        worker = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=log)
    with worker:
        assert worker.stdout is not None
        launcher = int(worker.stdout.readline())
        wait_until(lambda: told.exists() and b'"step": 3,' in told.read_bytes(), 120, "step 3", 0.005)
        assert len(ranks(launcher)) == 2
        worker.kill()
    wait_until(lambda: group_members(launcher) == [], 10, "the end of all processes")


def test_two_processes_learn_what_one_learns_and_neither_resumes_from_the_other(base: Path, tmp_path: Path) -> None:
    """Without dropout only the order of sums differs. Measured: 6e-7 in a loss, 1.4e-6 in a weight of up to 0.3."""
    tiny.request(tmp_path, base, **ASKED)
    two = Trainer(tmp_path, processes=2)
    assert two.wait() == 0, two.log.read_text()
    theirs = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    one = Trainer(tmp_path)
    assert one.wait() == 0, one.log.read_text()
    ours = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    (warning,) = [line["message"] for line in one.of("event") if line["level"] == "warning"]
    assert "(processes differ)" in warning
    assert two.losses().keys() == one.losses().keys()
    for step, values in one.losses().items():
        assert two.losses()[step] == pytest.approx(values, abs=1e-5)
    assert ours.keys() == theirs.keys()
    apart = max(float((ours[name] - theirs[name]).abs().max()) for name in ours)
    largest = max(float(tensor.abs().max()) for tensor in ours.values())
    assert apart <= 2e-5 < largest / 1000, (apart, largest)
    assert all(tensor.dtype == torch.float32 for tensor in ours.values())


BROKEN = """
from finetune.training import launch

whole = launch._train

def _train(run_dir, room, reporter, who):
    if who[1] == 1:
        from finetune.training.engine import Engine

        step = Engine.step

        def broken(self, examples, number, *more):
            if number == 3:
                raise LookupError("deep down")
            return step(self, examples, number, *more)

        Engine.step = broken
    return whole(run_dir, room, reporter, who)

launch._train = _train
"""


def test_what_fails_in_another_process_is_told_once(base: Path, tmp_path: Path) -> None:
    tiny.request(tmp_path, base, **ASKED)
    edge = tmp_path / "edge"
    edge.mkdir()
    (edge / "sitecustomize.py").write_text(BROKEN)
    trainer = Trainer(tmp_path, processes=2, PYTHONPATH=str(edge))
    assert trainer.wait() == 1, trainer.log.read_text()
    (failed,) = trainer.of("failed")
    assert trainer.lines[-1] == failed
    assert (failed["error"]["code"], failed["retry"]) == ("E699", False)
    assert "LookupError: deep down" in failed["error"]["what"]
    assert trainer.at() == 3
    assert "deep down" in trainer.log.read_text()
    assert "Traceback" not in trainer.report.read_text()


def test_while_its_processes_start_it_can_be_stopped_and_killed(base: Path, tmp_path: Path) -> None:
    tiny.request(tmp_path, base, **ASKED)
    stopped = Trainer(tmp_path, processes=2)
    wait_until(lambda: len(ranks(stopped.process.pid)) == 2, 120, "both processes", 0.005)
    os.killpg(stopped.process.pid, signal.SIGTERM)
    assert stopped.wait() == 75, stopped.log.read_text()
    assert [line["message"] for line in stopped.lines] == ["trainer started with 2 processes"]

    killed = Trainer(tmp_path, processes=2)
    wait_until(lambda: len(ranks(killed.process.pid)) == 2, 120, "both processes", 0.005)
    killed.process.kill()
    # They notice as soon as they have loaded torch.
    wait_until(lambda: group_members(killed.process.pid) == [], 60, "the end of all processes")
    killed.wait()


def test_what_is_malformed_is_told_before_anything_is_started(base: Path, tmp_path: Path) -> None:
    tiny.request(tmp_path, base, seed=-1)
    trainer = Trainer(tmp_path, processes=2)
    assert trainer.wait() == 1
    assert [line["kind"] for line in trainer.lines] == ["event", "failed"]
    assert json.loads(trainer.report.read_text().splitlines()[-1])["error"]["code"] == "E600"
