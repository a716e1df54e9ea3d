"""What the command line, and later the HTTP service, ask for: each method is one call to the parts."""

import itertools
import json
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from finetune.errors import NotFound, Problem, UsageError
from finetune.wiring.planning import Planning

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from finetune.bench import Verdict
    from finetune.board import Board
    from finetune.codes import CodeText
    from finetune.doctor import Broker, Check
    from finetune.evaluation.compare import Comparison
    from finetune.inbox import Inbox
    from finetune.jobs import Job, Json
    from finetune.measuring import Wish
    from finetune.ports import Chat, Served
    from finetune.promotions import Wanted
    from finetune.spec import RecipeFile
    from finetune.up import Helpers, Lookout
    from finetune.versions import ModelVersion, Promotion
    from finetune.wiring.rehearsal import How, Sandboxes

_LOOPBACK = ("127.0.0.1", "localhost", "[::1]", "::1")
#: Room for an answer in the comparison after a training.
_ANSWER_TOKENS = 256


class Desk(Planning):
    """The parts, with the questions that a user's command puts to several of them."""

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

    def sandboxes(self, names: Sequence[str], how: "How") -> "AbstractContextManager[Sandboxes]":
        """Stand-ins for hosted APIs and gateways, running while the context lasts. See `rehearsal.running`."""
        from finetune.wiring.rehearsal import running

        return running(names, self.settings.home / "sandbox", how)

    def rehearsing(self) -> "AbstractContextManager[None]":
        """While the context lasts, a new Desk finds stand-ins in place of hosted APIs, and another home."""
        from finetune.wiring.rehearsal import rehearsing

        return rehearsing(self.settings.home / "sandbox")

    @cached_property
    def inbox(self) -> "Inbox":
        """What takes in the notices of hosted APIs."""
        from finetune.inbox import Inbox

        return Inbox(self.jobs, self.providers.get, self.queue, self.clock)

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

    @cached_property
    def board(self) -> "Board":
        """The queue and its workers."""
        from finetune.board import Board
        from finetune.up import alive

        living = partial(alive, self.beats, self.clock)
        return Board(self.jobs, self.runs, living, self.settings.limits, self.clock)

    def promote(self, ref: str, wanted: "Wanted") -> "Promotion":
        """See `releasing.Releasing.promote`; the user of this process asks for it."""
        from finetune.ids import login

        return self.releasing.promote(ref, wanted, by=login())

    def roll_back(self, name: str, alias: str) -> "Promotion":
        """See `releasing.Releasing.roll_back`."""
        from finetune.ids import login

        return self.releasing.roll_back(name, alias, by=login())

    def retire(self, ref: str) -> list[str]:
        """See `releasing.Releasing.retire`."""
        from finetune.ids import login

        return self.releasing.retire(ref, by=login())

    def carry(self, promotion: "Promotion", *, wait: bool) -> "Promotion":
        """Move a promotion on, and say what happens, until it has ended; without `wait`, or until a canary has begun.

        A worker may move it meanwhile: that is as good. Blocks.
        """
        promoter, told = self.promoter(lambda line: None, measuring=self._say), 0
        while True:
            promoter.advance(promotion.id)
            promotion = self.promotions.get(promotion.id)
            # The last word of a good end, and the reason of a bad one, are the command's to say.
            said = (promotion.error or {}).get("what")
            for note in promotion.notes[told : -1 if promotion.state == "live" else None]:
                if note["text"] != said:
                    self._say(note["text"])
            told = len(promotion.notes)
            left_s = (promotion.due_at - self.clock.now()).total_seconds() if promotion.due_at else 0.0
            if promotion.final or (not wait and promotion.step and left_s > 0):
                return promotion
            self.clock.sleep(min(1.0, max(0.05, left_s)))

    def measure(self, ref: str, wish: "Wish", at: str | None) -> "tuple[ModelVersion, list[Json]]":
        """Measure the version, or that of the job, of this name; reports are kept. Blocks for minutes.

        `at`: an address that answers as the version by its own name, such as the embedded server's.
        """
        from finetune.measuring import Address
        from finetune.seats import LOOK, AllTaken

        model = self.registry.version(self._version_of(ref))
        if at is not None:
            key = "FT_API_KEY" if self.settings.api_key else None
            wish = replace(wish, at=Address(url=at, model=model.ref, key_env=key))
        said = ""
        while True:
            try:
                return model, self.measurer.measure(model, wish, self._say)
            except AllTaken as error:
                if error.problems[0].what != said:
                    said = error.problems[0].what
                    self._say(said)
                self.clock.sleep(LOOK.total_seconds())

    def _version_of(self, ref: str) -> str:
        if not ref.startswith("ft_") or "@" in ref:
            return ref
        job = self.jobs.get(ref)
        if job.model is None:
            what, why = f"{job.id} has no model", f"it is {job.state}, and a model comes with success"
            raise NotFound(Problem(code="E702", what=what, why=why, fix=f"`ft wait {job.id}`, then again"))
        return job.model

    def verdict(self, model: "ModelVersion", reports: "list[Json]") -> "Verdict | None":
        """What the gate of the recipe that made it says to these reports; None: it has none."""
        from finetune.promotions import gate_of
        from finetune.spec import Recipe
        from finetune.wiring.releases import decided

        gate = gate_of(Recipe.model_validate(self.jobs.get(model.job_id).recipe))
        return decided(gate, reports) if gate else None

    def can_answer(self, name: str) -> bool:
        """Whether this machine has the model itself, not only its name at a provider."""
        return any(model.id == name for model in self.registry.served())

    def compare(self, job: "Job") -> "Comparison | None":
        """Base and tuned model on the job's held-out rows, at most 50; None when it held none out. Loads both."""
        from finetune.evaluation.compare import compare
        from finetune.evaluation.rows import as_chat
        from finetune.ports import Served

        path = job.data.get("validation")
        if not path or not job.model:
            return None
        with Path(path).open(encoding="utf-8") as file:
            rows = [as_chat(json.loads(line)) for line in itertools.islice(file, 50)]
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
        from finetune.logs import to_json
        from finetune.process import die_with_parent
        from finetune.serving.run import serve
        from finetune.serving.server import Sides, create_app

        if parent:
            die_with_parent(parent)
        lines = to_json().formatter if self.settings.log_format == "json" else None
        _guard_address(host, self.settings.api_key)
        key = self.settings.api_key
        # Without a key only this machine may ask, and no web page may pass for it under another host's name.
        hosts = None if key else _LOOPBACK
        app = create_app(
            self.registry,
            self.engines,
            api_key=key,
            runtime_adapters=True,
            allowed_hosts=hosts,
            sides=Sides(notices=self.inbox.receive, figures=self.metrics.page),
        )
        asked = self.settings.port if port is None else port
        serve(app, host, asked, lambda url: self._say(f"serving on {url}/v1"), lines)

    def up(self, host: str, port: int | None) -> None:
        """Run workers and server until SIGINT or SIGTERM. Blocks. Raises WorkerError, StateError."""
        from finetune.serving.run import check_address
        from finetune.tasks import QUEUES
        from finetune.up import PYTHON, only_one, run_all, worker_command

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
        from finetune.tasks import QUEUES
        from finetune.up import run_all, worker_command

        queues = QUEUES if queue == "all" else (queue,)
        if not set(queues) <= set(QUEUES):
            fix = f"--queue {', '.join(QUEUES)} or all"
            raise UsageError(Problem(code="E903", what=f"there is no queue {queue!r}", fix=fix))
        self.database.close()
        run_all({name: worker_command(name) for name in queues}, self.clock, self._say)

    def doctor(self) -> "list[Check]":
        """See `doctor.examine`."""
        from finetune.doctor import examine
        from finetune.up import alive

        return examine(
            self.settings.home,
            database=self._examine_database,
            broker=self._examine_broker,
            alive=lambda: alive(self.beats, self.clock),
            ahead=self._database_ahead,
            places={"adapters": lambda: self.adapters.reach(), "catalogue": self._examine_catalogue},
            lost=lambda: self.sync.lost(),
        )

    def _examine_broker(self) -> "Broker | None":
        from finetune.doctor import Broker
        from finetune.queue import look

        return Broker(**look(self.settings.broker_url, self.clock.now)) if self.settings.broker_url else None

    def _examine_catalogue(self) -> str:
        sheets, own = len(self.catalogue.sheets), self.settings.catalogue
        return f"{sheets} sheets" + (f", with those of {own} (FT_CATALOGUE)" if own else "")

    def _database_ahead(self) -> float | None:
        asked = self.clock.now()
        said = self.database.now()
        return (said - asked - (self.clock.now() - asked) / 2).total_seconds() if said else None

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
