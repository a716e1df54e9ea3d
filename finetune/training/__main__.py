"""`python -m finetune.training RUN_DIR --report FILE --parent PID`: one training in a process of its own.

Exit codes: 0 the adapter is there and `done` is in the report; 1 it is not, and `failed` is in the report; 75 it was
asked to stop, start it again and it goes on. Standard error is the trainer's log; nothing goes to standard output.
"""

import argparse
import os
import sys
import traceback
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from finetune.errors import FtError, Problem, TrainingError
from finetune.process import die_with_parent
from finetune.training import disk, request
from finetune.training.report import Reporter
from finetune.training.stop import INTERRUPTED, Interrupted, Stop


def main(argv: Sequence[str] | None = None) -> int:
    """Run the trainer; returns the exit code. Main thread only: it installs signal handlers."""
    parser = argparse.ArgumentParser(prog="finetune.training")
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("--report", type=Path, required=True)
    parser.add_argument("--parent", type=int, required=True, help="pid of who starts this; the trainer ends with it")
    asked = parser.parse_args(argv)
    die_with_parent(asked.parent)
    stop = Stop()
    try:
        stop.install()
        with closing(Reporter(asked.report)) as reporter:
            return _report(asked.run_dir, reporter, stop)
    except Interrupted:
        return INTERRUPTED


def _report(run_dir: Path, reporter: Reporter, stop: Stop) -> int:
    try:
        reporter.event("trainer started")
        reporter.done(_train(run_dir, reporter, stop))
    except FtError as error:
        reporter.failed(error)
        return 1
    except Exception as error:  # noqa: BLE001 - the last line of defence: no traceback reaches a user
        traceback.print_exc()
        reporter.failed(_told(error, run_dir))
        return 1
    return 0


def _train(run_dir: Path, reporter: Reporter, stop: Stop) -> dict[str, object]:
    # Before the libraries: what is malformed should be told at once.
    asked = request.read(run_dir / "request.json")
    # Both are read when torch is loaded. Without the first, matrix products on CUDA need not repeat. With threads that
    # spin while they wait, a machine that has other work too trains several times slower; the result is the same.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        from finetune.training import trainer  # brings torch: some seconds
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
    return trainer.train(asked, run_dir, reporter, stop)


def _told(error: Exception, run_dir: Path) -> TrainingError:
    # The report and the lock are written, too, and a full disk is no fault of ours.
    told = disk.refusal(error, run_dir)
    if isinstance(told, disk.DiskFull):
        return told
    return TrainingError(
        Problem(
            code="E699",
            what=f"the trainer failed unexpectedly: {type(error).__name__}: {str(error).strip()[:300]}",
            why="this is a fault in ft, or in a library under it",
            fix="see the trainer's log in the run's folder; please report it with that log",
        )
    )


if __name__ == "__main__":
    sys.exit(main())
