"""Has an adapter merged into its base, in a process of its own. No torch here.

A process of its own: a base in fp32 may need more memory than there is, and what the system then kills should be that
process, not the one that can say so.
"""

import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from finetune.errors import Problem, TrainingError
from finetune.jobs import Json
from finetune.ports import Clock
from finetune.process import end_group, spawn

_LOOK_S = 0.2


class Merger:
    """Starts merging processes and waits for them."""

    def __init__(self, *, folder: Path, log: Path, command: Callable[[Path], Sequence[str]], clock: Clock) -> None:
        """`folder` is for what the two tell each other; `command(folder)` starts `finetune.training.merge`."""
        self._folder, self._log, self._command, self._clock = folder, log, command, clock

    def merge(self, request: Json, say: Callable[[str], None]) -> Json:
        """Merge what `request` (`training.merge.Asked`) names, and return the result. Blocks for minutes.

        Raises TrainingError: what the process says, E849 when it ended without a word.
        """
        folder = self._folder / f"merge-{os.getpid()}"
        folder.mkdir(parents=True, exist_ok=True)
        try:
            (folder / "request.json").write_text(json.dumps(request), encoding="utf-8")
            return self._run(folder, say)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _run(self, folder: Path, say: Callable[[str], None]) -> Json:
        child, told = spawn(self._command(folder), log=self._log), 0
        try:
            while child.poll() is None:
                self._clock.sleep(_LOOK_S)
                told = _on(folder, told, say)
        finally:
            end_group(child.pid, grace_s=1)
            code = child.wait()
        _on(folder, told, say)
        last = _lines(folder)[-1:]
        if last and "done" in last[0]:
            done: Json = last[0]["done"]
            return done
        if last and "failed" in last[0]:
            raise TrainingError(Problem(**last[0]["failed"]))
        how = f"killed by signal {-code}" if code < 0 else f"exit code {code}"
        raise TrainingError(
            Problem(
                code="E849",
                what=f"the merge ended without a result ({how})",
                why="signal 9 is most often the system's answer to a lack of memory; it takes 4 bytes a parameter",
                fix=f"give it more memory, or export the adapter alone (--to hf); {self._log} has what it said",
            )
        )


def _on(folder: Path, told: int, say: Callable[[str], None]) -> int:
    lines = _lines(folder)
    for line in lines[told:]:
        if "text" in line:
            say(line["text"])
    return len(lines)


def _lines(folder: Path) -> list[Json]:
    """The whole lines so far."""
    said = folder / "said.jsonl"
    if not said.is_file():
        return []
    return [json.loads(line) for line in said.read_text(encoding="utf-8").split("\n")[:-1]]
