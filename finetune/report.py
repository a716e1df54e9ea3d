"""A report: JSON lines in a file, written by a trainer or an evaluation and read by who started it.

Kinds of lines, all with `at` (ISO 8601, UTC):

* `event`: `level` (info, warning, error) and `message`.
* `metric`: `step` (optimiser steps done), `values` by name, `progress` (None with an `eval_loss`). After a resume the
  steps since the checkpoint are reported again, with the same losses: a reader keeps one value per step and name.
* `done`: a trainer's `artifact` with `path`, `digest`, `lineage`. The last line of what ended well.
* `failed`: `error` (code, what, why, fix) and `retry`. The last line of a run that ended badly.

A run that was killed or interrupted has neither of the last two.
"""

import json
import os
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from finetune.errors import FtError

Json = dict[str, Any]


def _now() -> datetime:
    return datetime.now(UTC)


class Reporter:
    """Appends to the report, each line handed to the system before the call returns. Not for several threads."""

    def __init__(self, path: Path, now: Callable[[], datetime] = _now) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab", buffering=0)
        self._now = now
        # A writer that died in the middle of a line must not spoil our first one.
        if self._file.tell() and not _ends_with_newline(path):
            self._file.write(b"\n")

    def event(self, message: str, level: Literal["info", "warning", "error"] = "info") -> None:
        """One plain sentence about what happens."""
        self._write({"kind": "event", "level": level, "message": message})

    def metric(self, step: int, values: Mapping[str, float], progress: Json | None) -> None:
        """Finite values measured after `step` optimiser steps."""
        self._write({"kind": "metric", "step": step, "values": dict(values), "progress": progress})

    def done(self, **made: Any) -> None:
        """What was to be made is complete. On the disk when this returns."""
        self._write({"kind": "done", **made})
        os.fsync(self._file.fileno())

    def failed(self, error: FtError) -> None:
        """Nothing will be made. Only the first problem is told, with the place of the fault in `what`."""
        problem = error.problems[0]
        places = (problem.where, problem.field or "")
        fault = {**problem.brief, "what": ": ".join([*filter(None, places), problem.what])}
        self._write({"kind": "failed", "error": fault, "retry": error.retry})
        os.fsync(self._file.fileno())

    def repeat(self, line: Json) -> None:
        """A `failed` line as another process of the same training has put it down."""
        self._write({name: value for name, value in line.items() if name != "at"})
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file. Idempotent."""
        self._file.close()

    def _write(self, line: Json) -> None:
        body = {"at": self._now().isoformat(timespec="milliseconds"), **line}
        data = json.dumps(body, ensure_ascii=False, allow_nan=False).encode() + b"\n"
        while data:
            data = data[self._file.write(data) :]


def _ends_with_newline(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def read(path: Path, offset: int, limit_bytes: int | None = None) -> tuple[list[Json], int]:
    """The lines that begin at byte `offset` or later and are complete, and the offset to ask for next.

    With `limit_bytes` (>= 1) only those that end within so many bytes, or the first alone when it is longer: nothing
    more is there to read when the offset comes back unchanged. Never a half line: one without its newline is left for
    the next call. A complete line that is no JSON object (its writer died in it) is left out, and the offset passes
    it. A file that is not there yet reads as empty. Idempotent, does not block.
    """
    try:
        with path.open("rb") as file:
            file.seek(offset)
            data = file.read(limit_bytes)
            if limit_bytes is not None and b"\n" not in data:
                data += file.readline()
    except FileNotFoundError:
        return [], offset
    end = data.rfind(b"\n") + 1
    return [line for raw in data[:end].splitlines() if (line := _parse(raw)) is not None], offset + end


def _parse(raw: bytes) -> Json | None:
    try:
        line = json.loads(raw)
    except ValueError:
        return None
    return line if isinstance(line, dict) else None
