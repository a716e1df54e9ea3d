"""`python -m finetune.training RUN_DIR --report FILE --parent PID [--processes N]`: one training, in N processes.

Exit codes: 0 the adapter is there and `done` is in the report; 1 it is not, and `failed` is in the report; 75 it was
asked to stop, start it again and it goes on. Anything else is a death: neither line is in the report (with several
processes 128 plus the signal that ended one of them, or 70). Standard error is the trainer's log; nothing goes to
standard output.

With N > 1 this process starts the others, which end with it, and does no training itself.
"""

import argparse
import sys
import traceback
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from finetune.errors import FtError
from finetune.process import die_with_parent, importing
from finetune.report import Reporter
from finetune.training import request, start
from finetune.training.stop import INTERRUPTED, Interrupted, Stop


def main(argv: Sequence[str] | None = None) -> int:
    """Run the trainer; returns the exit code. Main thread only: it installs signal handlers."""
    parser = argparse.ArgumentParser(prog="finetune.training")
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("--report", type=Path, required=True)
    parser.add_argument("--parent", type=int, required=True, help="pid of who starts this; the trainer ends with it")
    parser.add_argument("--processes", type=int, default=1, help="how many train together, each on a device of its own")
    asked = parser.parse_args(argv)
    die_with_parent(asked.parent)
    if asked.processes > 1:
        from finetune.training import launch  # not needed by one process

        return launch.launch(asked.run_dir, asked.report, asked.processes)
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
        reporter.done(artifact=_train(run_dir, reporter, stop))
    except FtError as error:
        reporter.failed(error)
        return 1
    except Exception as error:  # noqa: BLE001 - the last line of defence: no traceback reaches a user
        traceback.print_exc()
        reporter.failed(start.told(error, run_dir))
        return 1
    return 0


def _train(run_dir: Path, reporter: Reporter, stop: Stop) -> dict[str, object]:
    # Before the libraries: what is malformed should be told at once.
    asked = request.read(run_dir / "request.json")

    def load() -> Any:
        with importing():
            from finetune.training import trainer

        return trainer

    trainer = start.with_libraries(load)
    with start.traced():
        made: dict[str, object] = trainer.train(asked, run_dir, reporter, stop)
    return made


if __name__ == "__main__":
    sys.exit(main())
