"""The trainer of the chaos run: obeys the trainer's contract, keeps a book of its own, and may go wrong as planned.

`python chaos_trainer.py REAL COMMAND LINE...`: what the worker would have started. CHAOS_PLAN names the file that says
what each recipe's seed is to play, CHAOS_LEDGER the folder of the books, one file a run key. A line of a book is
appended whole: `begin START PROCESS TIME`, `end START HOW TIME`, and `overlap START PROCESS` for a trainer of the same
run that was found alive.
"""

import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

from finetune.errors import Problem, TrainingError
from finetune.files import ADAPTER_FILES, digest
from finetune.process import die_with_parent, identity, same_process
from finetune.report import Reporter
from finetune.training.stop import INTERRUPTED


class Book:
    """One run's book, seen from one start."""

    def __init__(self, path: Path, start: int) -> None:
        self._path, self._start = path, start

    def begin(self) -> None:
        for start, process in _open(self._path):
            if same_process(process) not in (None, os.getpid()):
                self._write(f"overlap {self._start} {start} {process}")
        self._write(f"begin {self._start} {identity(os.getpid())} {time.time():.3f}")

    def end(self, how: str) -> None:
        self._write(f"end {self._start} {how} {time.time():.3f}")

    def _write(self, line: str) -> None:
        handle = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            os.write(handle, f"{line}\n".encode())
        finally:
            os.close(handle)


def _open(path: Path) -> list[tuple[str, str]]:
    """Starts that have a begin and no end, with their processes."""
    if not path.exists():
        return []
    begun: dict[str, str] = {}
    for kind, start, *rest in map(str.split, path.read_text().splitlines()):
        if kind == "begin":
            begun[start] = rest[0]
        elif kind == "end":
            begun.pop(start, None)
    return list(begun.items())


def adapter(folder: Path, run_key: str, start: int) -> dict[str, Any]:
    """A small adapter that says who made it, and the artifact of it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name in ADAPTER_FILES:
        (folder / name).write_text(json.dumps({"run_key": run_key, "start": start}))
    return {"path": str(folder), "digest": digest(folder), "lineage": {"start": start}}


def fault(code: str, what: str, *, retry: bool = False) -> TrainingError:
    error = TrainingError(Problem(code=code, what=what, why="it was told to", fix="none"))
    error.retry = retry
    return error


def play(part: dict[str, Any], run_dir: Path, report: Path, start: int, book: Book) -> int:
    """What the plan says for this start; the exit code."""
    request = json.loads((run_dir / "request.json").read_text())
    reporter = Reporter(report)
    reporter.event(f"start {start}")
    progress = {"step": 1, "total_steps": 2, "loss": 1.0}
    reporter.metric(1, {"loss": float(start)}, progress)
    if part["play"] == "hang":
        time.sleep(600)
    time.sleep(part["seconds"])
    if start <= part["deaths"]:
        os.kill(os.getpid(), signal.SIGKILL)
    if part["play"] == "fail" or (part["play"] == "later" and start == 1):
        book.end("failed")
        later = part["play"] == "later"
        reporter.failed(
            fault("E606", "out of reach", retry=True) if later else fault("E610", "the loss is not a number")
        )
        return 1
    reporter.metric(2, {"loss": float(start)}, {**progress, "step": 2})
    made = adapter(run_dir / f"adapter-{start}", request["run_key"], start)
    book.end("done")
    reporter.done(artifact=made)
    return 0


def main(real: list[str]) -> int:
    words = real[real.index("finetune.training") + 1 :]
    run_dir, report = Path(words[0]), Path(words[words.index("--report") + 1])
    die_with_parent(int(words[words.index("--parent") + 1]))
    start = int(report.stem.rpartition("-")[2])
    book = Book(Path(os.environ["CHAOS_LEDGER"]) / run_dir.name, start)

    def stop(number: int, frame: FrameType | None) -> None:
        book.end("stopped")
        os._exit(INTERRUPTED)

    signal.signal(signal.SIGTERM, stop)
    seed = json.loads((run_dir / "request.json").read_text())["seed"]
    part = json.loads(Path(os.environ["CHAOS_PLAN"]).read_text())[str(seed)]
    book.begin()
    if part["play"] == "real":
        os.execv(real[0], real)
    return play(part, run_dir, report, start, book)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
