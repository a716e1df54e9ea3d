"""The processes of one installation: workers for the work at hand, or everything in one foreground command."""

import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from types import FrameType

from finetune.errors import Problem, StateError, WorkerError
from finetune.files import unwritable
from finetune.ports import Clock
from finetune.process import end_group, spawn
from finetune.runs import Beat, BeatStore
from finetune.tasks import ALIVE, QUEUES

#: `-P`: the folder that the user stands in must not lend its `workers.py` or `celery.py` to ours.
PYTHON = (sys.executable, "-P")
_GRACE_S = 20.0
#: For workers of a rehearsal, in which nothing is worth waiting for.
_SHORT_GRACE_S = 5.0
_RESTART_S = 2.0
Say = Callable[[str], None]


def alive(beats: BeatStore, clock: Clock) -> list[Beat]:
    """The workers that live at this moment."""
    return beats.workers(clock.now() - ALIVE)


def living(beats: BeatStore, clock: Clock) -> set[str]:
    """The queues that some worker serves at this moment."""
    return {queue for beat in alive(beats, clock) for queue in beat.queues}


class Helpers:
    """Workers in the background for as long as there is work; they end by themselves, also after we are gone."""

    def __init__(self, beats: BeatStore, clock: Clock, logs: Path) -> None:
        self._beats, self._clock, self._logs = beats, clock, logs
        self._asked_at = clock.now() - timedelta(hours=1)
        self._children: dict[str, subprocess.Popen[bytes]] = {}

    def ensure(self, *, bound: bool = False) -> list[str]:
        """Start a worker for each queue that nobody serves; the queues it started one for. Cheap to call often.

        With `bound` they end with this process, however that ends.
        Raises WorkerError (E803) when one that was started here has failed.
        """
        now = self._clock.now()
        if now - self._asked_at < ALIVE / 3:
            return []
        self._asked_at = now
        for queue, child in self._children.items():
            if child.poll():
                raise WorkerError(_failed(queue, self.log(queue)))
        ours = {queue for queue, child in self._children.items() if child.returncode is None}
        missing = [queue for queue in QUEUES if queue not in living(self._beats, self._clock) | ours]
        with_us = ["--parent", str(os.getpid())] if bound else []
        for queue in missing:
            command = [*worker_command(queue), "--until-idle", *with_us]
            self._children[queue] = spawn(command, log=self.log(queue))
        return missing

    def end(self) -> None:
        """End those that were started here. Blocks until nothing of them runs, some seconds."""
        for child in self._children.values():
            if child.poll() is None:
                child.terminate()
        for child in self._children.values():
            end_group(child.pid, grace_s=_SHORT_GRACE_S)
            child.wait()
        self._children.clear()

    def log(self, queue: str) -> Path:
        """Where the worker of this queue writes."""
        return self._logs / f"worker-{queue}.log"


class Lookout:
    """Says when nobody serves a queue that a job waits for: once, and again after somebody did."""

    def __init__(self, beats: BeatStore, clock: Clock, say: Say) -> None:
        self._beats, self._clock, self._say = beats, clock, say
        self._looked_at = clock.now() - timedelta(hours=1)
        self._told = False

    def look(self) -> None:
        """Cheap to call often."""
        now = self._clock.now()
        if now - self._looked_at < ALIVE:
            return
        self._looked_at = now
        missing = set(QUEUES) - living(self._beats, self._clock)
        if missing and not self._told:
            self._say(unserved_text(missing))
        self._told = bool(missing)


def unserved_text(queues: Collection[str]) -> str:
    """What to do about queues that nobody serves."""
    names = " and ".join(sorted(queues))
    return f"no worker serves the {names} queue: start one with `ft up` (or `ft worker`); jobs wait until then"


def worker_command(queue: str) -> list[str]:
    """The command line of a worker."""
    return [*PYTHON, "-m", "workers", "--queue", queue]


def run_all(commands: Mapping[str, Sequence[str]], clock: Clock, say: Say) -> None:
    """Run the commands until SIGINT or SIGTERM, starting again what ends by itself. Blocks.

    They get SIGTERM and up to 20 s: trainings save their state. A second signal ends them at once.
    """
    asked = _Asked()
    children = {name: _start(name, command) for name, command in commands.items()}
    try:
        while not asked.times:
            clock.sleep(0.1)
            for name, child in children.items():
                if child.poll() is not None and not asked.times:
                    say(f"{name} ended with exit code {child.returncode}; starting it again")
                    clock.sleep(_RESTART_S)
                    children[name] = _start(name, commands[name])
    finally:
        say("stopping; trainings save their state (press Ctrl-C again to stop at once)")
        _stop_all(list(children.values()), asked, clock)


class _Asked:
    """Counts the signals that ask for the end."""

    def __init__(self) -> None:
        self.times = 0
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._count)

    def _count(self, number: int, frame: FrameType | None) -> None:
        self.times += 1


def _start(name: str, command: Sequence[str]) -> "subprocess.Popen[bytes]":
    return spawn([*command, "--parent", str(os.getpid())], log=None)


def _stop_all(children: "list[subprocess.Popen[bytes]]", asked: _Asked, clock: Clock) -> None:
    for child in children:
        if child.poll() is None:
            child.terminate()
    end = clock.now() + timedelta(seconds=_GRACE_S)
    while clock.now() < end and asked.times < 2 and any(child.poll() is None for child in children):
        clock.sleep(0.05)
    for child in children:
        end_group(child.pid, grace_s=0)
        child.wait()


@contextmanager
def only_one(home: Path, url: str, *, lock: str = "up.lock") -> Iterator[None]:
    """Hold FT_HOME against a second `ft up`, which is told this `url` (empty when it is not known yet).

    Another `lock` holds it against another kind of command.

    The system lets go when this process ends, however it ends. Raises WorkerError (E801) with the other one's address,
    StateError (E501) when FT_HOME cannot be written.
    """
    try:
        home.mkdir(parents=True, exist_ok=True)
        file = (home / lock).open("a+")
    except OSError as error:
        raise StateError(unwritable(home, error)) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise WorkerError(_second(home, file.read().strip())) from None
        file.truncate(0)
        file.write(f"process {os.getpid()}{url and ', '}{url}")
        file.flush()
        yield


def _failed(queue: str, log: Path) -> Problem:
    said = log.read_text(errors="replace").strip().splitlines() or ["nothing"]
    return Problem(
        code="E803",
        what=f"the worker for the {queue} queue ended by itself",
        why=f"it said: {said[-1]}",
        fix=f"look at {log} and mend it; the job waits, and `ft up` carries on with it",
    )


def _second(home: Path, first: str) -> Problem:
    return Problem(
        code="E801",
        what=f"ft is up already ({first})",
        why=f"one `ft up` serves one FT_HOME, and this is {home}",
        fix="use that one, stop it first, or set FT_HOME to another folder",
    )
