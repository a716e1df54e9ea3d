"""A chaos run: servers, workers that are started again whenever they end, users with wishes, and what goes wrong.

One thread does everything in the order of its time, so a plan is played the same as far as the machine allows.
"""

import heapq
import itertools
import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

from sqlalchemy import text

from finetune.errors import FtError
from finetune.process import same_process
from finetune.wiring import Desk
from tests.support import recipes
from tests.support.chaos_plan import Fault, Part, Plan
from tests.support.process import Child, kill_group, run_ft, wait_until
from tests.support.servers import PostgresServer, RedisServer

#: Queues, and how many workers of each.
WORKERS: Final = {"remote": 2, "gpu": 4}
LIMITS: Final = {"openai": 40, "local": 80}
_REPO: Final = Path(__file__).parents[2]
#: What a submit may say while the database is down.
_DOWN: Final = {"E502", "E505"}


class Postgres(PostgresServer):
    """One that keeps what it has said it has, also when its processes are killed."""

    def _argv(self) -> list[str]:
        # The machine itself does not fail here, so what is written needs no fsync; but it has to be written.
        return [*super()._argv(), "-c", "synchronous_commit=on", "-c", "max_connections=200"]

    def crash(self) -> None:
        """End it at once, without a checkpoint, as `pg_ctl stop -m immediate` does. `restart` recovers it."""
        assert self._child
        os.kill(self._child.pid, signal.SIGQUIT)
        self._child.process.wait(20)
        self.stop()


class Site:
    """One installation: servers, a stand-in for the hosted API in a process of its own, workers."""

    def __init__(self, folder: Path, *, plan: Plan, sabotage: str = "") -> None:
        self.folder, self.plan, self._sabotage = folder, plan, sabotage
        self.home, self.ledger = folder / "ft", folder / "ledger"
        self.stack = ExitStack()
        self.workers: dict[tuple[str, int], Child] = {}
        self.stopped: set[int] = set()
        self.ends: Counter[str] = Counter()

    def __enter__(self) -> "Site":
        with self.stack:
            self._open()
            self.stack = self.stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.close()

    def _open(self) -> None:
        self.home.mkdir()
        self.ledger.mkdir()
        self.redis = self.stack.enter_context(RedisServer())
        self.postgres = self.stack.enter_context(Postgres())
        plays = {
            each.number: {"play": each.is_.play, "seconds": each.seconds, "deaths": each.deaths}
            for each in self.plan.parts
        }
        (self.folder / "plan.json").write_text(json.dumps(plays))
        os.environ.update(
            {
                "FT_BROKER_URL": self.redis.url,
                "FT_DATABASE_URL": self.postgres.database(),
                "FT_LIMITS": ",".join(f"{name}={most}" for name, most in LIMITS.items()),
                "FT_MAX_POLL_S": "2",
                "FT_REQUESTS_PER_S": "50",
                "CHAOS_LEDGER": str(self.ledger),
                "CHAOS_PLAN": str(self.folder / "plan.json"),
                "CHAOS_SABOTAGE": self._sabotage,
                **self._sandbox(),
                "FT_HOME": str(self.home),
            }
        )
        self.base = recipes.base(self.folder / "base")
        recipes.write(self.folder / "recipes", self.base)
        self.desk = Desk()
        self.desk.database  # noqa: B018 -- the tables are made before anything goes wrong
        for queue, count in WORKERS.items():
            for number in range(count):
                self._start(queue, number)
        self.stack.callback(self._end_workers)

    def _sandbox(self) -> dict[str, str]:
        words = ["sandbox", "openai", "--port", "0", "--speed", "2", "--seed", str(self.plan.seed)]
        words += ["--fault-rate", str(self.plan.hosted_rate), "--fault", "cut_after:create"]
        log = self.folder / "sandbox.log"
        child = Child(
            [Path(sys.executable).parent / "ft", *words],
            stop_signal=signal.SIGTERM,
            stdout=self.stack.enter_context(log.open("wb")),
            stderr=self.stack.enter_context((self.folder / "sandbox.err").open("wb")),
        )
        self.stack.callback(child.stop)
        wait_until(lambda: b"unset" in log.read_bytes() or not child.alive, 60, "the sandbox", 0.1)
        lines = [line.removeprefix("export ") for line in log.read_text().splitlines() if line.startswith("export ")]
        return {name: value.strip("'") for name, _, value in (line.partition("=") for line in lines)}

    def _start(self, queue: str, number: int) -> None:
        log = (self.folder / f"{queue}-{number}.log").open("ab")
        argv = [sys.executable, "-m", "tests.bench.chaos_worker", "--queue", queue]
        with log:
            child = Child(argv, stop_signal=signal.SIGTERM, stdout=log, stderr=log, cwd=_REPO)
        self.workers[queue, number] = child

    def _end_workers(self) -> None:
        for pid in self.stopped:
            os.kill(pid, signal.SIGCONT)
        for child in self.workers.values():
            if child.alive:
                child.process.send_signal(signal.SIGTERM)
        for child in self.workers.values():
            child.stop(20)

    def supervise(self, *, down: bool = False) -> None:
        """Start again what has ended, as a service manager does. With a server `down` a worker may end by itself."""
        for (queue, number), child in list(self.workers.items()):
            if not child.alive:
                code = child.stop()
                if code != -signal.SIGKILL and not down:
                    self.ends[f"{queue}: exit {code}"] += 1
                self._start(queue, number)

    def log(self) -> str:
        """What all workers have said."""
        return "".join(path.read_text(errors="replace") for path in self.folder.glob("*-?.log"))

    def count(self, question: str) -> list[Any]:
        """Rows of a question to the database."""
        with self.desk.database.read() as connection:
            return list(connection.execute(text(question)).all())


class Run:
    """Plays a plan at a site."""

    def __init__(self, site: Site, minutes: float) -> None:
        self.site, self.plan, self._desk = site, site.plan, site.desk
        self._begun = time.monotonic()
        self._until = self._begun + minutes * 60
        self._next: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._down: set[str] = set()
        self._shaken_until = 0.0
        #: Job ids of parts by number, as they were accepted.
        self.accepted: dict[int, str] = {}
        self.done: Counter[str] = Counter()
        #: Codes of submits and wishes that were refused while the database was down.
        self.refused: Counter[str] = Counter()
        #: What should not have been said or done.
        self.unclear: list[str] = []
        self.over_limit: list[str] = []
        self._by_command: list[Part] = [each for each in self.plan.parts if each.kind == "local"][-4:]

    def play(self) -> float:
        """Until all jobs have ended or the time is over; returns the seconds it took."""
        commanded = {each.number for each in self._by_command}
        for part in self.plan.parts:
            if part.number not in commanded:
                self._at(part.at_s, lambda part=part: self._submit(part))
        for fault in self.plan.faults:
            self._at(fault.at_s, lambda fault=fault: self._fail(fault))
        # Whatever was not submitted in an outage is submitted in the end.
        self._at(self.plan.faults[-1].at_s + 4, self._rest)
        looked = 0.0
        while time.monotonic() < self._until:
            # A worker that starts while the database is away says so and ends, a moment later.
            self.site.supervise(down=self._now() < self._shaken_until)
            while self._next and self._next[0][0] <= self._now():
                heapq.heappop(self._next)[2]()
            if self._now() - looked > 0.5:
                looked = self._now()
                if self._look() and not self._next:
                    break
            time.sleep(0.02)
        return self._now()

    def _now(self) -> float:
        return time.monotonic() - self._begun

    def _at(self, at_s: float, what: Callable[[], None]) -> None:
        heapq.heappush(self._next, (at_s, next(self._order), what))

    def _after(self, seconds: float, what: Callable[[], None]) -> None:
        self._at(self._now() + seconds, what)

    def _look(self) -> bool:
        """True when all is over. Counts what is under way, too."""
        question = "SELECT provider, count(*), count(admitted_at) FROM jobs WHERE finished_at IS NULL GROUP BY provider"
        try:
            rows = self.site.count(question)
        except FtError:
            return False
        self.over_limit += [f"{row[0]}: {row[2]}" for row in rows if row[2] > LIMITS[row[0]]]
        return not rows and len(self.accepted) == len(self.plan.parts)

    # Users.

    def _submit(self, part: Part) -> None:
        path = self.site.folder / "recipes" / f"{part.number}.yaml"
        path.write_text(part.recipe(str(self.site.base)))
        if (job_id := self._tried(lambda: self._taken(path))) is None:
            self._after(1.0, lambda: self._submit(part))
        else:
            self._have(part, job_id)

    def _taken(self, path: Path) -> str:
        submitter = self._desk.submitter
        return submitter.submit(submitter.ready(self._desk.read(path, []))).job.id

    def _have(self, part: Part, job_id: str) -> None:
        self.accepted[part.number] = job_id
        service, wish = self._desk.service, part.is_.wish
        first: dict[str, Callable[[str], object]] = {
            "cancel": service.cancel,
            "pause": service.hold,
            "hold, deadline": service.hold,
            "priority": lambda each: service.prioritise(each, 50),
        }
        if wish in first:
            # Lifted only when it was taken: a wish that was refused is repeated.
            then = partial(self._after, part.pause_s, lambda: self._wish(service.lift, job_id))
            self._after(part.wish_s, lambda: self._wish(first[wish], job_id, then if wish == "pause" else None))

    def _wish(self, wish: Callable[[str], object], job_id: str, then: Callable[[], None] | None = None) -> None:
        if self._tried(lambda: (wish(job_id), "")[1]) is None:
            self._after(1.0, lambda: self._wish(wish, job_id, then))
        elif then:
            then()

    def _tried(self, ask: Callable[[], str]) -> str | None:
        """The answer; None when the database is down, which has to be said as what it is."""
        try:
            return ask()
        except FtError as error:
            code = error.problems[0].code
            self.refused[code] += 1
            if code not in _DOWN:
                self.unclear.append(f"{code} {error.problems[0].what}")
            return None

    def _command(self) -> None:
        """One submit by the command line while a server is down."""
        if not self._by_command:
            return
        part = self._by_command.pop()
        path = self.site.folder / "recipes" / f"{part.number}.yaml"
        path.write_text(part.recipe(str(self.site.base)))
        down = "postgres" in self._down
        ran = run_ft("submit", path, "-q", timeout=60)
        if ran.returncode == 0 and not down:
            self._have(part, ran.stdout.strip())
            return
        said = [line[:7] for line in ran.stderr.splitlines()]
        if not down or ran.returncode != 1 or "error E502" not in ran.stderr or said[1:] != ["  why: ", "  fix: "]:
            self.unclear.append(f"ft submit with {self._down} down: {ran.returncode} {ran.stderr!r}")
        self.refused["by the command line"] += 1
        self._after(5.0, lambda: self._submit(part))

    def _rest(self) -> None:
        for part in self._by_command:
            self._submit(part)
        self._by_command = []

    # What goes wrong.

    def _fail(self, fault: Fault) -> None:
        verb, _, whom = fault.what.partition(" ")
        happened = getattr(self, f"_{verb}")(whom, fault)
        if happened:
            self.done[fault.what] += 1

    def _kill(self, whom: str, fault: Fault) -> bool:
        if whom == "a trainer":
            return self._kill_trainer(fault)
        victims = self._victims(whom.split()[1])
        if not victims:
            self._retry(fault)
            return False
        os.kill(victims[int(fault.chance * len(victims))].pid, signal.SIGKILL)
        return True

    def _kill_trainer(self, fault: Fault) -> bool:
        # One that has died often is left alone: after five deaths a run is given up, and rightly.
        found = [pid for _, pid, deaths in self._trainers() if deaths < 2]
        if found:
            kill_group(found[int(fault.chance * len(found))])
        else:
            # None trains in this moment; one will soon.
            self._retry(fault)
        return bool(found)

    def _retry(self, fault: Fault) -> None:
        if self._now() < self.plan.faults[-1].at_s + 20:
            self._after(0.3, lambda: self._fail(fault))

    def _stop(self, whom: str, fault: Fault) -> bool:
        with_trainer = "trainer" in whom
        victims = self._victims(whom.split()[1])
        busy = {worker: trainer for worker, trainer, _ in self._trainers()}
        if "gpu" in whom:
            # One that trains: what its trainer leaves must not count.
            victims = [each for each in victims if each.pid in busy]
        if not victims:
            self._retry(fault)
            return False
        victim = victims[int(fault.chance * len(victims))]
        pids = [victim.pid, *([busy[victim.pid]] if with_trainer else [])]
        for pid in pids:
            self._signal(pid, signal.SIGSTOP)
        self.site.stopped.add(victim.pid)
        self._after(fault.for_s, lambda: self._go_on(victim.pid, pids))
        return True

    def _go_on(self, worker: int, pids: list[int]) -> None:
        self.site.stopped.discard(worker)
        for pid in reversed(pids):
            self._signal(pid, signal.SIGCONT)

    @staticmethod
    def _signal(pid: int, number: signal.Signals) -> None:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return

    def _victims(self, queue: str) -> list[Child]:
        workers = [child for (name, _), child in self.site.workers.items() if name == queue and child.alive]
        return [child for child in workers if child.pid not in self.site.stopped]

    def _trainers(self) -> list[tuple[int, int, int]]:
        """Of each training that a living worker has: worker, trainer, deaths of the run."""
        try:
            runs = self._desk.runs.training(datetime.now(UTC))
        except FtError:
            return []
        found = []
        for run in runs:
            pid = same_process(run.process) if run.process else None
            if pid and run.worker:
                found.append((int(run.worker.split(":")[1]), pid, run.deaths))
        return found

    def _flush(self, whom: str, fault: Fault) -> bool:
        if "redis" in self._down:
            return False
        self.site.redis.flush()
        return True

    def _restart(self, whom: str, fault: Fault) -> bool:
        server = self.site.redis if whom == "redis" else self.site.postgres
        return self._outage(whom, fault, server.stop)

    def _crash(self, whom: str, fault: Fault) -> bool:
        return self._outage(whom, fault, self.site.postgres.crash)

    def _outage(self, whom: str, fault: Fault, stop: Callable[[], None]) -> bool:
        if whom in self._down:
            return False
        stop()
        self._down.add(whom)
        self._shaken_until = self._now() + fault.for_s + 15
        self._command()
        self._after(fault.for_s, lambda: self._back(whom))
        return True

    def _back(self, whom: str) -> None:
        (self.site.redis if whom == "redis" else self.site.postgres).restart()
        self._down.discard(whom)
