"""A tiny base, and an adapter that the real trainer has made of it by heart."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import tiny
from tests.support.once import made_once


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_once(tmp_path_factory, "evaluated-base", tiny.save_base)


@pytest.fixture(scope="session")
def run_dir(tmp_path_factory: pytest.TempPathFactory, base: Path) -> Path:
    """A finished training: `adapter`, `train.jsonl`, `validation.jsonl`."""
    return made_once(tmp_path_factory, "evaluated-run", lambda folder: _train(folder, base))


def _train(folder: Path, base: Path) -> None:
    tiny.request(folder, base, training__epochs=120, training__learning_rate=2e-2, lora__r=16, lora__alpha=32)
    argv = [sys.executable, "-m", "finetune.training", folder, "--report", folder / "report.jsonl", "--parent"]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*argv, str(os.getpid())], env=env, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
