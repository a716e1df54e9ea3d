"""Runs one trainer process for a worker: claims the run, renews its lease, ends the process when it must end.

No torch here: a crash, an out-of-memory kill or a cancel takes the trainer down, never the worker.
"""

import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, Literal

from finetune import report, traces
from finetune.errors import LeaseLost, Problem, StateError
from finetune.files import digest, unwritable
from finetune.jobs import Json
from finetune.leases import held
from finetune.placement import from_row
from finetune.ports import Clock
from finetune.process import end_group, identity, same_process, spawn
from finetune.runs import Placements, Run, RunStore
from finetune.training.disk import write_json
from finetune.training.stop import INTERRUPTED

#: Another worker may take the run over when this has passed without a renewal.
LEASE = timedelta(seconds=15)
#: A run whose trainer, or worker, died this often without a word is given up.
MAX_DEATHS = 5
#: Before a try after an error that may pass (a hub that is out of reach); doubled with each further one.
PAUSE = timedelta(seconds=15)
#: Before a look whether the disk takes files again.
LONG_PAUSE = timedelta(seconds=60)
#: Tries to put an adapter where it is kept beside this disk, with pauses as above.
UPLOADS = 4
_RENEW_S = 1.0
_LOOK_S = 0.2
_GRACE_S = 10.0
_LATER = "`ft models sync` on this machine puts it there later"


class Supervisor:
    """Does the task `ft.train`. Any number of workers may have one; a run is with one of them at a time."""

    def __init__(
        self,
        runs: RunStore,
        clock: Clock,
        *,
        placements: Placements,
        runs_dir: Path,
        adapters_dir: Path,
        command: Callable[[Path, Path, int], Sequence[str]],
        shelve: Callable[[Path, str], str | None] = lambda folder, digest: None,
    ) -> None:
        """`command(run_dir, report, processes)` is the trainer's command line, for one process a card.

        `shelve(folder, digest)` keeps a finished adapter beside this disk too (`shelf.Adapters.shelve`).
        """
        self._runs, self._clock, self._placements = runs, clock, placements
        self._runs_dir, self._adapters_dir, self._command = runs_dir, adapters_dir, command
        self._shelve = shelve

    def claim(self, stopping: Callable[[], bool]) -> Run | None:
        """The run whose turn it is here, claimed; None if nothing waits, or fits, or the worker is `stopping`."""
        # A message may come with the wish to stop: the run is for another worker.
        return None if stopping() else self._placements.claim_run(self._clock.now(), LEASE)

    def run(self, run: Run, stopping: Callable[[], bool]) -> None:
        """Train what was claimed until it has ended or the worker is `stopping`. Blocks. Silent if it is lost.

        Raises StoreBusy or StateError when the store cannot be used; the trainer is ended first.
        """
        try:
            self._take(run, stopping)
        except LeaseLost:
            # Whoever took the run over writes its end.
            return

    def _take(self, run: Run, stopping: Callable[[], bool]) -> None:
        if run.process and (left := same_process(run.process)):
            # Its worker is gone, and the system did not end it with the worker.
            end_group(left, grace_s=_GRACE_S)
        if run.cancel_requested:
            self._end(run, state="cancelled")
        elif run.hold_requested:
            self._end(run, state="queued")
        elif run.deaths >= MAX_DEATHS:
            self._end(run, state="failed", error=_too_often("the last time with its worker"))
        else:
            self._train(run, stopping)

    def _train(self, run: Run, stopping: Callable[[], bool]) -> None:
        folder = self._runs_dir / run.run_key
        told = _Told(folder / f"report-{run.starts}.jsonl")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write_json(folder / "request.json", run.request)
            devices = from_row(run.placed).devices
            command = self._command(folder, told.path, len(devices) or 1)
            child = spawn(command, log=folder / "trainer.log", env=self._environment(devices))
        except OSError as error:
            # Nothing was started, and that is no fault of the training: it waits until there is room again.
            self._runs.update_run(run, self._clock.now(), ttl=LONG_PAUSE, state="queued")
            raise StateError(unwritable(folder, error)) from error
        try:
            run = self._runs.update_run(run, self._clock.now(), ttl=LEASE, process=identity(child.pid))
            run = self._watch(run, child, told, stopping)
        except LeaseLost:
            # Another worker may have started a trainer in the same folder: ours must not save anything there.
            end_group(child.pid, grace_s=0)
            raise
        finally:
            # Also when the store fails: a trainer without a supervisor would train for nobody.
            gone = end_group(child.pid, grace_s=_GRACE_S)
            code = child.wait()
        # Whoever has taken the run over meanwhile must find its folder as it was: the lease is renewed, or lost, first.
        run = self._runs.update_run(run, self._clock.now(), ttl=LEASE, **told.further(run))
        # A cancel that comes after the end does not lose the adapter.
        if run.cancel_requested and told.last.get("kind") != "done":
            self._cancelled(run, child.pid, told.path, gone=gone)
        else:
            # A trainer that has just begun may end by the signal itself, before it could say so by its exit code.
            asked = (stopping() or run.hold_requested) and code < 0
            if told.last.get("kind") == "done":
                self._done(run, told, stopping)
            else:
                self._ended(run, told.last, told.path, INTERRUPTED if asked else code)

    def _environment(self, devices: Sequence[str]) -> dict[str, str]:
        """Ours, with the span that the trainer's belong to; where there are cards, with those that it has."""
        cards = {"CUDA_VISIBLE_DEVICES": ",".join(devices)} if self._placements.site.devices else {}
        return {**os.environ, **traces.environment(), **cards}

    def _watch(self, run: Run, child: "subprocess.Popen[bytes]", told: "_Told", stopping: Callable[[], bool]) -> Run:
        """Renew the lease until the trainer ends by itself, or must end."""
        cards = len(from_row(run.placed).devices) or 1
        renewed = self._clock.now()
        while child.poll() is None and not (run.cancel_requested or run.hold_requested or stopping()):
            self._clock.sleep(_LOOK_S)
            passed_s = (self._clock.now() - renewed).total_seconds()
            if passed_s >= _RENEW_S:
                renewed = self._clock.now()
                news = {"card_s": run.card_s + passed_s * cards, **told.further(run)}
                run = self._runs.update_run(run, renewed, ttl=LEASE, **news)
        return run

    def _cancelled(self, run: Run, group: int, told: Path, *, gone: bool) -> None:
        reporter = report.Reporter(told)
        reporter.event(f"process group {group} is gone" if gone else f"process group {group} cannot be ended")
        reporter.close()
        if gone:
            self._end(run, state="cancelled")
        else:
            # The lease ends, another look follows: `cancelled` must mean that nothing runs.
            self._runs.update_run(run, self._clock.now(), process=run.process)

    def _done(self, run: Run, told: "_Told", stopping: Callable[[], bool]) -> None:
        artifact = self._keep(run, told.last["artifact"])
        # It may take longer than the lease lasts.
        with held(partial(self._renew, run), _RENEW_S):
            uri = self._shelved(artifact, told.path, stopping)
        self._end(run, state="succeeded", artifact={**artifact, "uri": uri} if uri else artifact)
        # Optimiser states are the largest files of a run. After the commit: until then they may be gone on from.
        shutil.rmtree(told.path.with_name("checkpoints"), ignore_errors=True)

    def _renew(self, run: Run) -> None:
        self._runs.update_run(run, self._clock.now(), ttl=LEASE)

    def _shelved(self, artifact: Json, told: Path, stopping: Callable[[], bool]) -> str | None:
        """Its address there. None when that came to nothing: the training is done all the same, and its adapter here.

        Blocks; a worker that is `stopping` does not wait for a bucket that is out of reach.
        """
        for attempt in range(UPLOADS):
            try:
                uri = self._shelve(Path(artifact["path"]), artifact["digest"])
            except StateError as error:
                problem, again = error.problems[0], error.retry and attempt + 1 < UPLOADS and not stopping()
                pause = PAUSE * 2**attempt
                then = f"trying again in {pause.total_seconds():.0f} s" if again else f"it is here alone; {_LATER}"
                self._note(told, f"{problem.what} ({problem.code}): {problem.why}; {then}")
                if not again:
                    return None
                self._sleep(pause, stopping)
            else:
                if uri:
                    self._note(told, f"the adapter is at {uri}", level="info")
                return uri
        return None

    def _sleep(self, pause: timedelta, stopping: Callable[[], bool]) -> None:
        until = self._clock.now() + pause
        while self._clock.now() < until and not stopping():
            self._clock.sleep(_RENEW_S)

    def _ended(self, run: Run, last: Json, told: Path, code: int) -> None:
        if last.get("kind") == "failed" and not last["retry"]:
            self._end(run, state="failed", error=last["error"])
        elif code == INTERRUPTED:
            # Asked to stop with its worker: it goes on from its checkpoint, and that is not held against it.
            self._end(run, state="queued")
        else:
            self._again(run, told, last.get("error"), _how(code))

    def _again(self, run: Run, told: Path, error: Json | None, how: str) -> None:
        """After a death, or an error that may pass: once more, or never again. A pause grows with every try."""
        if run.deaths + 1 >= MAX_DEATHS:
            self._end(run, state="failed", error=error or _too_often(f"the last time {how}"))
            return
        pause = PAUSE * 2**run.deaths if error else timedelta(0)
        cause = f"{error['what']} ({error['code']})" if error else f"the trainer ended without a result ({how})"
        self._note(
            told, f"{cause}; trying again in {pause.total_seconds():.0f} s, from the last checkpoint if there is one"
        )
        self._runs.update_run(run, self._clock.now(), ttl=pause, state="queued", process=None, deaths=run.deaths + 1)

    def _keep(self, run: Run, artifact: Json) -> Json:
        """Move the adapter to where it stays for good: a folder named by its content, never overwritten.

        Raises StateError when the disk does not take it, or when it is not what the trainer has reported.
        """
        path, target = Path(artifact["path"]), self._adapters_dir / str(artifact["digest"])[:32]
        # This worker may have been away since it renewed the lease, and the adapter of another trainer be there now.
        mine = target.with_name(f".{target.name}-{run.lease_token}")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            if not target.exists():
                path.rename(mine)
                if digest(mine) != artifact["digest"]:
                    mine.rename(path)
                    raise StateError(_another(path))
                mine.rename(target)
        except OSError as error:
            raise StateError(unwritable(target.parent, error)) from error
        return {**artifact, "path": str(target)}

    def _note(self, told: Path, message: str, level: Literal["info", "warning"] = "warning") -> None:
        reporter = report.Reporter(told)
        reporter.event(message, level=level)
        reporter.close()

    def _end(self, run: Run, **fields: Any) -> None:
        self._runs.update_run(run, self._clock.now(), process=None, **fields)


class _Told:
    """What a trainer has reported so far."""

    def __init__(self, path: Path) -> None:
        self.path = path
        #: The last whole line; empty when there is none.
        self.last: Json = {}
        self._offset = self._step = 0

    def further(self, run: Run) -> Json:
        """The step, if no trainer of the run was there before: then deaths are forgiven. Reads the report."""
        lines, self._offset = report.read(self.path, self._offset)
        self.last = lines[-1] if lines else self.last
        self._step = max([self._step, *(line["step"] for line in lines if line.get("kind") == "metric")])
        return {"furthest": self._step, "deaths": 0} if self._step > run.furthest else {}


def _how(code: int) -> str:
    return f"killed by signal {-code}" if code < 0 else f"exit code {code}"


def _another(path: Path) -> Problem:
    return Problem(
        code="E623",
        what=f"the adapter in {path} is not the one that its trainer has reported",
        why="another worker has the run by now, or the disk has changed what was written",
        fix="nothing: the training goes on from its last checkpoint; if it happens again, look at the disk",
    )


def _too_often(last: str) -> Json:
    return {
        "code": "E630",
        "what": f"the trainer ended {MAX_DEATHS} times without a result, {last}",
        "why": "signal 9 is most often the system's answer to a lack of memory",
        "fix": "lower local.micro_batch_size or training.max_seq_length; `ft logs JOB` has what it said",
    }
