"""What an evaluation process tells while it runs: JSON lines, in the layout of the trainer's report.

`event` (`level`, `message`), and at the end `done` (`result`, the file's path) or `failed` (`error` with code, what,
why, fix; `retry`). All have `at` (ISO 8601, UTC). A process that was killed has told neither of the last two.
"""

import json
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from finetune.errors import FtError


def _now() -> datetime:
    return datetime.now(UTC)


class Progress:
    """Appends to the report, each line handed to the system before the call returns. Not for several threads."""

    def __init__(self, path: Path, now: Callable[[], datetime] = _now) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path, self._now = path, now
        # The process that wrote before us may have died in the middle of a line.
        self._begin = "\n" if path.exists() and not path.read_bytes().endswith(b"\n") else ""

    def say(self, message: str) -> None:
        """One plain sentence about what happens."""
        self._write({"kind": "event", "level": "info", "message": message})

    def done(self, result: Path) -> None:
        """The result is there."""
        self._write({"kind": "done", "result": str(result)})

    def failed(self, error: FtError) -> None:
        """There will be no result. Only the first problem is told, with its place in `what`."""
        problem = error.problems[0]
        places = (problem.where, problem.field or "")
        told = {**problem.brief, "what": ": ".join([*filter(None, places), problem.what])}
        self._write({"kind": "failed", "error": told, "retry": error.retry})

    def _write(self, line: dict[str, Any]) -> None:
        body = {"at": self._now().isoformat(timespec="milliseconds"), **line}
        data = self._begin + json.dumps(body, ensure_ascii=False, allow_nan=False) + "\n"
        self._begin = ""
        with self._path.open("ab", buffering=0) as file:
            file.write(data.encode("utf-8", "backslashreplace"))
            os.fsync(file.fileno())
