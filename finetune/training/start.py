"""How a training starts in its process, and what is told when it fails. No torch before `train`."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from finetune import traces
from finetune.errors import FtError, Problem, TrainingError
from finetune.training import disk


def environment() -> None:
    """Set what is read when torch is loaded, where the user has not. Idempotent."""
    # Without it, matrix products on CUDA need not repeat.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # With threads that spin while they wait, a machine that has other work too trains several times slower; the result
    # is the same.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


@contextmanager
def traced() -> Iterator[None]:
    """In the block spans are children of the worker's, which TRACEPARENT names.

    Blocks for up to a second longer where a collector does not answer.
    """
    with traces.running(_say), traces.Scope("trainer", parent=os.environ.get("TRACEPARENT")):
        yield


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def with_libraries(load: Callable[[], Any]) -> Any:
    """What `load`, which imports torch, returns. Takes some seconds. Raises TrainingError (E614) when it's missing."""
    environment()
    try:
        return load()
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("finetune"):
            raise
        raise TrainingError(
            Problem(
                code="E614",
                what=f"local training needs the package {error.name}, which is not installed here",
                fix="pip install 'ft-orchestrator[local]'",
            )
        ) from error


def told(error: Exception, run_dir: Path) -> FtError:
    """What a user is told of `error`: itself if it is ours, a full disk (E622), or that ft is at fault (E699)."""
    if isinstance(error, FtError):
        return error
    # The report and the lock are written, too, and a full disk is no fault of ours.
    refused = disk.refusal(error, run_dir)
    if isinstance(refused, disk.DiskFull):
        return refused
    return TrainingError(
        Problem(
            code="E699",
            what=f"the trainer failed unexpectedly: {type(error).__name__}: {str(error).strip()[:300]}",
            why="this is a fault in ft, or in a library under it",
            fix="see the trainer's log in the run's folder; please report it with that log",
        )
    )
