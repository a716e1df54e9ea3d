"""Builds the parts of a process. Each is imported and built on first use: `ft status` pays for no trainer."""

import os
import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

from finetune.errors import Problem
from finetune.settings import Settings, from_environment

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from finetune.catalogue import Catalogue, DataRules, Method
    from finetune.clock import SystemClock
    from finetune.data.room import Room
    from finetune.data.tokens import Tokens
    from finetune.estimates import Estimate
    from finetune.jobs import Lease
    from finetune.lifecycle import Lifecycle
    from finetune.metrics import Metrics
    from finetune.placement import Site
    from finetune.ports import BaseLoader, LoadedBase, Provider, Queue
    from finetune.registry import Registry
    from finetune.service import Service
    from finetune.serving.pool import Pool
    from finetune.shelf import Adapters
    from finetune.spec import Recipe
    from finetune.store import (
        Database,
        SqlBeats,
        SqlJobs,
        SqlModels,
        SqlPlacements,
        SqlPromotions,
        SqlRuns,
        SqlTurns,
    )
    from finetune.submission import Conditions, Submitter
    from finetune.targets import Size
    from finetune.training.supervisor import Supervisor


class Parts:
    """The parts of one process. Close it when done.

    `say` gets plain lines about what takes long; `reading` the bytes of training data read so far, and all of them
    (None when that is not known).
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        say: Callable[[str], None] = lambda line: None,
        reading: Callable[[int, int | None], None] = lambda read, total: None,
    ) -> None:
        self.settings = settings or from_environment()
        self._say, self._reading = say, reading

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
    def turns(self) -> "SqlTurns":
        """Jobs that wait for their turn."""
        from finetune.store import SqlTurns

        return SqlTurns(self.database, self.jobs)

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
    def promotions(self) -> "SqlPromotions":
        """Promotions, and what gateways have."""
        from finetune.store import SqlPromotions

        return SqlPromotions(self.database)

    @cached_property
    def beats(self) -> "SqlBeats":
        """Living workers."""
        from finetune.store import SqlBeats

        return SqlBeats(self.database)

    @cached_property
    def metrics(self) -> "Metrics":
        """What Prometheus reads."""
        from finetune.metrics import Metrics
        from finetune.store import SqlFigures

        return Metrics(SqlFigures(self.database), self.clock)

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
        from finetune.report import read

        kit = ProviderKit(
            runs_dir=self.settings.runs_dir,
            cache_dir=self.settings.cache_dir,
            clock=self.clock,
            queue=self.queue,
            runs=lambda: self.runs,
            read_report=read,
            environ=os.environ,
            gpu_hour_usd=self.settings.card_hour_usd,
            uploads_dir=self.settings.home / "uploads",
            requests_per_s=self.settings.requests_per_s,
            sheet=lambda name: self.catalogue.provider(name),
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

        return Registry(self.models, place=lambda one: (self.adapters.place(one), self.adapters.address(one)))

    @cached_property
    def adapters(self) -> "Adapters":
        """Where versions' adapters are."""
        from finetune.shelf import Adapters

        return Adapters(self.settings.adapters_dir, self.settings.artifacts)

    @cached_property
    def service(self) -> "Service":
        """What a user can ask for."""
        from finetune.service import Service

        return Service(self.jobs, self.turns, self.queue, self.clock, pausable=self._pausable)

    def _pausable(self, name: str) -> bool:
        from finetune.abilities import Pausable

        return isinstance(self.provider(name), Pausable)

    @cached_property
    def submitter(self) -> "Submitter":
        """What takes recipes in."""
        from finetune.ids import new_job_id
        from finetune.submission import Submitter

        return Submitter(
            self.jobs,
            self.queue,
            self.clock,
            data=self.data,
            conditions=self._conditions,
            providers=self.providers,
            new_id=new_job_id,
        )

    @cached_property
    def data(self) -> "Room":
        """What reads and writes training rows."""
        from finetune.data.room import Room

        return Room(out=self.settings.data_dir, tokens_of=self.tokens_of, progress=self._reading)

    @cached_property
    def catalogue(self) -> "Catalogue":
        """What providers and models take, cost, and until when."""
        from finetune.catalogue import load

        return load(own=self.settings.catalogue)

    @cached_property
    def _conditions(self) -> "Conditions":
        from finetune.catalogue.weights import called
        from finetune.submission import Conditions
        from finetune.targets import reckoned

        return Conditions(
            rules_of=self._rules_of,
            eligible=self._eligible,
            cost_of=partial(reckoned, self.catalogue),
            called=partial(called, self.catalogue),
            servable=self._servable,
            caps=self.settings.limits,
            foresee=self._foresee,
            own_priced=self.settings.card_hour_usd is not None,
        )

    def _foresee(self, recipe: "Recipe", size: "Size") -> "Estimate":
        """What a training is foreseen to take: where nothing is planned, nothing is."""
        from finetune.estimates import Estimate

        return Estimate()

    def _servable(self, recipe: "Recipe") -> "list[Problem]":
        """What stands against measuring and serving what the recipe makes: where nothing promotes, nothing does."""
        return []

    def _eligible(self, provider: str, recipe: "Recipe") -> "list[Problem]":
        from finetune.abilities import Keyed
        from finetune.catalogue.eligible import against
        from finetune.targets import ungiven

        ours = provider in self.providers and not isinstance(self.providers[provider], Keyed)
        # Own machines train whatever has open weights; their sheet names what comes with ft.
        sheet = None if ours else self.catalogue.provider(provider)
        found = against(sheet, recipe.method, recipe.base_model, self.clock.now().date()) if sheet else []
        if not any(each.level == "error" for each in found):
            found += [none] if (none := ungiven(self.catalogue, provider, recipe.base_model)) else []
        # A stand-in trains what the vendor does not any more.
        past = "E307" if provider in self.settings.sandbox else None
        return [replace(each, level="warning") if each.code == past else each for each in found]

    @cached_property
    def scores(self) -> "Mapping[str, Mapping[str, float]]":
        """How good base models are, by the name of an import and theirs."""
        from finetune.catalogue.scores import kept

        return kept(self.settings.scores_dir)

    def _rules_of(self, provider: str, method: "Method", base_model: str) -> "DataRules | None":
        sheet = self.catalogue.provider(provider)
        return sheet.rules(method, base_model) if sheet else None

    def tokens_of(self, base_model: str) -> "Tokens":
        """What counts the tokens of a model: its own tokenizer where that is on this machine, else an estimate."""
        from finetune.data.tokens import Guess, NotHere, Tiktoken
        from finetune.training.tokens import LocalTokens

        local = partial(LocalTokens.open, base_model, cache=self.settings.cache_dir)
        openings: tuple[Callable[[], Tokens], ...] = (local, partial(Tiktoken.open, base_model))
        for opening in openings:
            try:
                return opening()
            except NotHere:
                continue
        return Guess()

    @cached_property
    def lifecycle(self) -> "Lifecycle":
        """What moves jobs."""
        from finetune import traces
        from finetune.lifecycle import Lifecycle, Ways

        ways = Ways(
            hold=self._hold,
            results_dir=self.settings.results_dir,
            keep_uploads=self.settings.keep_uploads,
            max_poll_s=self.settings.max_poll_s,
            chance=random.random,
        )
        return Lifecycle(
            traces.steps(self.jobs),
            self.models,
            lambda name: traces.calls(self.provider(name)),
            self.queue,
            self.clock,
            owner=self.worker,
            ways=ways,
        )

    def _hold(self, lease: "Lease") -> "AbstractContextManager[None]":
        """Renew the lease while a long step (an upload) runs."""
        from finetune.leases import held
        from finetune.lifecycle import LEASE

        return held(lambda: self.jobs.renew(lease, self.clock.now() + LEASE), LEASE.total_seconds() / 3)

    @cached_property
    def site(self) -> "Site":
        """What this worker trains on. Blocks on first use while the driver is asked."""
        from finetune.gpus import devices
        from finetune.placement import Site

        return Site(self.worker, devices(self.settings.gpus, os.environ))

    @cached_property
    def placements(self) -> "SqlPlacements":
        """Places on it."""
        from finetune.store import SqlPlacements

        return SqlPlacements(self.database, self.site)

    @cached_property
    def supervisor(self) -> "Supervisor":
        """What runs trainers."""
        from finetune.training.supervisor import Supervisor

        return Supervisor(
            self.runs,
            self.clock,
            placements=self.placements,
            runs_dir=self.settings.runs_dir,
            adapters_dir=self.settings.adapters_dir,
            command=_trainer,
            shelve=self.adapters.shelve,
        )

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

        return Pool(lambda name, report: self.load_base(name, report), progress=self._say, fetch=self.adapters.fetch)


def _trainer(run_dir: Path, report: Path, processes: int) -> list[str]:
    from finetune.up import PYTHON

    parent = str(os.getpid())
    command = [*PYTHON, "-m", "finetune.training", str(run_dir), "--report", str(report), "--parent", parent]
    return command if processes == 1 else [*command, "--processes", str(processes)]
