"""A tiny base, and an adapter that the real trainer has made of it by heart."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.support import tiny


@pytest.fixture(scope="session", autouse=True)
def one_torch_thread() -> Iterator[None]:
    """Matrices this small are faster on one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="session")
def run_dir(tmp_path_factory: pytest.TempPathFactory, base: Path) -> Path:
    """A finished training: `adapter`, `train.jsonl`, `validation.jsonl`."""
    folder = tmp_path_factory.mktemp("run")
    tiny.request(folder, base, training__epochs=120, training__learning_rate=2e-2, lora__r=16, lora__alpha=32)
    argv = [sys.executable, "-m", "finetune.training", folder, "--report", folder / "report.jsonl", "--parent"]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*argv, str(os.getpid())], env=env, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    return folder
