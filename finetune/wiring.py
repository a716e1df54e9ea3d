"""The only place that joins parts. Each is imported and built on first use: `ft status` pays for no trainer."""

import itertools
import json
import os
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from finetune.errors import Problem, UsageError
from finetune.settings import Settings, from_environment

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from finetune.clock import SystemClock
    from finetune.codes import CodeText
    from finetune.doctor import Check
    from finetune.evaluation.compare import Comparison
    from finetune.jobs import Job, Json, Lease
    from finetune.lifecycle import Lifecycle
    from finetune.ports import BaseLoader, Chat, LoadedBase, Provider, Queue, Served
    from finetune.registry import Registry
    from finetune.service import Service
    from finetune.serving.pool import Pool
    from finetune.spec import RecipeFile
    from finetune.store import Database, SqlBeats, SqlJobs, SqlModels, SqlRuns
    from finetune.submission import Submitter
    from finetune.sweep import Sweep
    from finetune.training.supervisor import Supervisor
    from finetune.up import Helpers, Lookout

_LOOPBACK = ("127.0.0.1", "localhost", "[::1]", "::1")
#: Room for an answer in the comparison after a training.
_ANSWER_TOKENS = 256


class Parts:
    """The parts of one process. Close it when done. `say` gets plain lines about what takes long."""

    def __init__(self, settings: Settings | None = None, *, say: Callable[[str], None] = lambda line: None) -> None:
        self.settings = settings or from_environment()
        self._say = say

    def close(self) -> None:
        """Give the database up, if it was opened."""
        if "database" in self.__dict__:
            self.database.close()

    @cached_property
    def worker(self) -> str:
        """This process's name in leases."""
        from finetune.ids import worker_name

        return worker_name()

    @cached_property
    def clock(self) -> "SystemClock":
        """Time."""
        from finetune.clock import SystemClock

        return SystemClock()

    @cached_property
    def database(self) -> "Database":
        """Opened and migrated on first use. Raises StateError."""
        from finetune.store import Database

        return Database.open(self.settings.database_url)

    @cached_property
    def jobs(self) -> "SqlJobs":
        """Jobs in the database."""
        from finetune.store import SqlJobs

        return SqlJobs(self.database)

    @cached_property
    def runs(self) -> "SqlRuns":
        """The local provider's books."""
        from finetune.store import SqlRuns

        return SqlRuns(self.database)

    @cached_property
    def models(self) -> "SqlModels":
        """Model versions."""
        from finetune.store import SqlModels

        return SqlModels(self.database)

    @cached_property
    def beats(self) -> "SqlBeats":
        """Living workers."""
        from finetune.store import SqlBeats

        return SqlBeats(self.database)

    @cached_property
    def queue(self) -> "Queue":
        """What wakes workers."""
        from finetune.queue import CeleryQueue, EmbeddedQueue

        return CeleryQueue(self.settings.broker_url) if self.settings.broker_url else EmbeddedQueue()

    @cached_property
    def providers(self) -> "Mapping[str, Provider]":
        """All installed ones, by name: ours and those of other packages come in by the same door."""
        from importlib.metadata import entry_points

        from finetune.ports import ProviderKit
        from finetune.training.report import read

        kit = ProviderKit(
            runs_dir=self.settings.runs_dir,
            cache_dir=self.settings.cache_dir,
            clock=self.clock,
            queue=self.queue,
            runs=lambda: self.runs,
            read_report=read,
        )
        found = {}
        for entry in entry_points(group="ft.providers"):
            try:
                found[entry.name] = entry.load()(kit)
            except Exception as error:  # noqa: BLE001 -- one broken package must not stop the jobs of all the others
                self._say(f"the provider {entry.name} cannot be used: {type(error).__name__}: {error}")
        return found

    def provider(self, name: str) -> "Provider":
        """The installed provider of this name. Raises ProviderUnavailable: another worker may have it."""
        from finetune.errors import ProviderUnavailable

        if name in self.providers:
            return self.providers[name]
        raise ProviderUnavailable(
            Problem(
                code="E404",
                what=f"the provider {name!r} is not installed where this worker runs",
                why=f"installed are {', '.join(sorted(self.providers)) or 'none'}",
                fix="install its package there and start the worker again; the job waits",
            )
        )

    @cached_property
    def registry(self) -> "Registry":
        """Tuned models by name."""
        from finetune.registry import Registry

        return Registry(self.models, self.clock)

    @cached_property
    def service(self) -> "Service":
        """What a user can ask for."""
        from finetune.service import Service

        return Service(self.jobs, self.queue, self.clock)

    @cached_property
    def submitter(self) -> "Submitter":
        """What takes recipes in."""
        from finetune.data import inspect, prepare
        from finetune.ids import new_job_id
        from finetune.submission import Submitter

        return Submitter(
            self.jobs,
            self.queue,
            self.clock,
            inspect=inspect,
            prepare=lambda train, validation, split: prepare(train, validation, split, self.settings.data_dir),
            providers=self.providers,
            new_id=new_job_id,
        )

    @cached_property
    def lifecycle(self) -> "Lifecycle":
        """What moves jobs."""
        from finetune.lifecycle import Lifecycle

        return Lifecycle(
            self.jobs,
            self.models,
            self.provider,
            self.queue,
            self.clock,
            owner=self.worker,
            hold=self._hold,
        )

    def _hold(self, lease: "Lease") -> "AbstractContextManager[None]":
        """Renew the lease while a long step (an upload) runs."""
        from finetune.leases import held
        from finetune.lifecycle import LEASE

        return held(lambda: self.jobs.renew(lease, self.clock.now() + LEASE), LEASE.total_seconds() / 3)

    @cached_property
    def supervisor(self) -> "Supervisor":
        """What runs trainers."""
        from finetune.training.supervisor import Supervisor

        return Supervisor(
            self.runs,
            self.clock,
            worker=self.worker,
            runs_dir=self.settings.runs_dir,
            adapters_dir=self.settings.adapters_dir,
            command=_trainer,
        )

    def sweep(self, ring: Callable[[str, str], None], tasks: frozenset[str]) -> "Sweep":
        """A sweep that rings for these tasks."""
        from finetune.sweep import Sweep

        return Sweep(self.jobs, self.runs, self.clock, ring, tasks=tasks)

    @cached_property
    def load_base(self) -> "BaseLoader":
        """Loads a base model into memory. Importing it imports torch."""
        # Before torch is loaded: threads that wait by spinning slow each other down on a busy machine.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        from finetune.training import bases

        def load(base_model: str, report: Callable[[str], None]) -> "LoadedBase":
            return bases.load(base_model, cache=self.settings.cache_dir, report=report)

        return load

    @cached_property
    def engines(self) -> "Pool":
        """Models in memory; torch is imported when the first one is loaded."""
        from finetune.serving.pool import Pool

        return Pool(lambda name, report: self.load_base(name, report), progress=self._say)

    # What the command line asks for, each one call.

    def read(self, path: Path, overrides: Sequence[str]) -> "RecipeFile":
        """See `spec.read`. Raises RecipeError."""
        from finetune.spec import read

        return read(path, overrides)

    def starter(self, name: str, base_model: str, data: str) -> tuple[str, str]:
        """A commented recipe, and the JSON Schema that its first line refers to."""
        from finetune.spec import starter

        return starter(name, base_model, data), self.schema_text()

    def schema_text(self) -> str:
        """The JSON Schema of the recipe."""
        from finetune.spec import json_schema

        return json.dumps(json_schema(), indent=2) + "\n"

    @property
    def codes(self) -> "dict[str, CodeText]":
        """All error codes."""
        from finetune.codes import CODES

        return CODES

    @property
    def views(self) -> ModuleType:
        """The stable JSON of jobs and models."""
        from finetune import views

        return views

    @cached_property
    def helpers(self) -> "Helpers":
        """Background workers for the work at hand."""
        from finetune.up import Helpers

        return Helpers(self.beats, self.clock, self.settings.logs_dir)

    @cached_property
    def lookout(self) -> "Lookout":
        """Says when nobody works."""
        from finetune.up import Lookout

        return Lookout(self.beats, self.clock, self._say)

    def can_answer(self, name: str) -> bool:
        """Whether this machine has the model itself, not only its name at a provider."""
        return any(model.id == name for model in self.registry.served())

    def compare(self, job: "Job") -> "Comparison | None":
        """Base and tuned model on the job's held-out rows, at most 50; None when it held none out. Loads both."""
        from finetune.evaluation.compare import compare
        from finetune.ports import Served

        path = job.data.get("validation")
        if not path or not job.model:
            return None
        with Path(path).open(encoding="utf-8") as file:
            rows = [json.loads(line) for line in itertools.islice(file, 50)]
        model = self.registry.resolve(job.model)
        engine = self.engines.ready(model)
        rows = [row for row in rows if engine.fits(row["messages"][:-1], model.id, 1)]
        if not rows:
            return None
        base = Served(id=model.base_model, base_model=model.base_model, adapter=None, created_at=model.created_at)
        return compare(rows, lambda chats: self._answers(base, chats), lambda chats: self._answers(model, chats))

    def _answers(self, model: "Served", chats: "Sequence[Sequence[Json]]") -> list[str]:
        from finetune.serving.pool import adapter_id

        return self.engines.ready(model).answers(chats, adapter_id(model), _ANSWER_TOKENS)

    def chat(self, name: str) -> "Chat":
        """A model to talk to, loaded now. Raises NotFound, ServingError, TrainingError."""
        return self.engines.chat(self.registry.resolve(name))

    def serve(self, host: str, port: int | None, parent: int | None) -> None:
        """Run the embedded server until SIGINT or SIGTERM. Blocks. Raises ServingError."""
        from finetune.process import die_with_parent
        from finetune.serving.run import serve
        from finetune.serving.server import create_app

        if parent:
            die_with_parent(parent)
        _guard_address(host, self.settings.api_key)
        key = self.settings.api_key
        # Without a key only this machine may ask, and no web page may pass for it under another host's name.
        hosts = None if key else _LOOPBACK
        app = create_app(self.registry, self.engines, api_key=key, runtime_adapters=True, allowed_hosts=hosts)
        asked = self.settings.port if port is None else port
        serve(app, host, asked, lambda url: self._say(f"serving on {url}/v1"))

    def up(self, host: str, port: int | None) -> None:
        """Run workers and server until SIGINT or SIGTERM. Blocks. Raises WorkerError, StateError."""
        from finetune.serving.run import check_address
        from finetune.up import PYTHON, QUEUES, only_one, run_all, worker_command

        _guard_address(host, self.settings.api_key)
        asked = self.settings.port if port is None else port
        server = [*PYTHON, "-m", "finetune", "serve", "--host", host, "--port", str(asked)]
        commands = {queue: worker_command(queue) for queue in QUEUES} | {"server": server}
        with only_one(self.settings.home, f"http://{host}:{asked}" if asked else ""):
            # Whatever would end the children again and again should end this, with a message.
            check_address(host, asked)
            self.database.close()
            run_all(commands, self.clock, self._say)

    def work(self, queue: str) -> None:
        """Run workers until SIGINT or SIGTERM. Blocks. Raises UsageError, StateError."""
        from finetune.up import QUEUES, run_all, worker_command

        queues = QUEUES if queue == "all" else (queue,)
        if not set(queues) <= set(QUEUES):
            fix = f"--queue {', '.join(QUEUES)} or all"
            raise UsageError(Problem(code="E903", what=f"there is no queue {queue!r}", fix=fix))
        self.database.close()
        run_all({name: worker_command(name) for name in queues}, self.clock, self._say)

    def doctor(self) -> "list[Check]":
        """See `doctor.examine`."""
        from finetune.doctor import examine
        from finetune.queue import ping
        from finetune.up import living

        return examine(
            self.settings.home,
            database=self._examine_database,
            broker=lambda: ping(self.settings.broker_url) if self.settings.broker_url else None,
            served=lambda: living(self.beats, self.clock),
        )

    def _examine_database(self) -> str:
        self.database.examine()
        return self.database.url.render_as_string(hide_password=True)


def _guard_address(host: str, api_key: str | None) -> None:
    if host not in _LOOPBACK and not api_key:
        raise UsageError(
            Problem(
                code="E904",
                what=f"{host} can be reached from other machines, and there is no API key",
                why="anybody who reaches it could use the models and load adapters",
                fix="set FT_API_KEY, or listen on 127.0.0.1",
            )
        )


def _trainer(run_dir: Path, report: Path) -> list[str]:
    from finetune.up import PYTHON

    parent = str(os.getpid())
    return [*PYTHON, "-m", "finetune.training", str(run_dir), "--report", str(report), "--parent", parent]
