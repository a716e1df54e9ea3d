"""The parts that foresee what a training takes: time, memory of a card, and what own machines cost."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from finetune.wiring.exports import Exports

if TYPE_CHECKING:
    from collections.abc import Mapping

    from finetune.errors import Problem
    from finetune.estimates import Estimate, Time
    from finetune.jobs import Job
    from finetune.memory import Kind, Need, Shape
    from finetune.placement import Device
    from finetune.spec import Recipe
    from finetune.targets import Size, Target, TimeOf

#: Jobs that say how long trainings take here.
_LOOKED_BACK = 500


@dataclass(frozen=True, kw_only=True)
class Foreseen:
    """What one recipe takes at one target."""

    target: "Target"
    size: "Size"
    #: Tokens of an epoch, at least and at most, and of the longest row, at most; before rows are cut.
    tokens: tuple[int, int]
    longest: int
    steps: int | None
    #: Memory of a card by what is trained; the text says why it is not known.
    needs: "Mapping[Kind, Need | str] | str"
    #: MiB of each card of this machine and of living workers.
    cards_mb: tuple[int, ...]


class Foresight(Exports):
    """The parts, with those."""

    @cached_property
    def cards(self) -> "tuple[Device, ...]":
        """Each card that trainings here can get."""
        from finetune.tasks import ALIVE

        found = {each.id: each for each in self.site.devices}
        for beat in self.beats.workers(self.clock.now() - ALIVE):
            found |= {each.id: each for each in beat.devices}
        return tuple(found.values())

    @property
    def cards_mb(self) -> tuple[int, ...]:
        """MiB of each."""
        return tuple(each.memory_mb for each in self.cards)

    def shape(self, base_model: str, *, fetch: bool = False) -> "Shape":
        """The base model's layers, by its config.json on this machine, or on the hub with `fetch`. Raises Unknown."""
        from finetune.catalogue.weights import LOCAL, called
        from finetune.data.tokens import NotHere
        from finetune.memory import Unknown, read
        from finetune.training import stored

        weights = called(self.catalogue, LOCAL, base_model)
        if weights is None:
            raise Unknown(f"the catalogue knows no weights of {base_model} on the hub")
        try:
            if fetch:
                stored.fetch_config(weights)
            return read(stored.config(weights, cache=self.settings.cache_dir))
        except NotHere as why:
            raise Unknown(f"{why.what}; {why.fix}" if why.fix else why.what) from None

    def needs(self, recipe: "Recipe", longest: int, *, fetch: bool = False) -> "Mapping[Kind, Need | str] | str":
        """See `Foreseen.needs`."""
        from finetune.estimates import needs, work_of
        from finetune.memory import Unknown

        try:
            shape = self.shape(recipe.base_model, fetch=fetch)
        except Unknown as why:
            return str(why)
        return needs(shape, work_of(recipe, min(longest, shape.context or longest), cards=self._on_cards(recipe)))

    def _on_cards(self, recipe: "Recipe") -> bool:
        """Whether own machines train it on cards; else on a processor."""
        gpus = recipe.resources.gpus
        return bool(self.cards) if gpus is None else gpus > 0

    def memory_of(self, recipe: "Recipe", longest: int) -> "tuple[tuple[int, int] | None, list[Problem]]":
        """See `targets.Market.memory_of`."""
        from finetune.catalogue.weights import parameters
        from finetune.estimates import tight, weights_alone
        from finetune.memory import Kind, Need

        found, on_cards = self.needs(recipe, longest), self._on_cards(recipe)
        need = None if isinstance(found, str) else found[Kind.LORA]
        known = isinstance(need, Need)
        if not isinstance(need, Need):
            count = parameters(self.catalogue, recipe.base_model)
            if count is None:
                return None, []
            need = weights_alone(recipe, count, cards=on_cards)
        problem = tight(recipe, need, self.cards_mb, None if on_cards else self._own_mb)
        return (need.low, need.high) if known else None, [problem] if problem else []

    @cached_property
    def _own_mb(self) -> int | None:
        """MiB of this machine's memory; None: another machine has a worker, which may have more."""
        import os
        import socket

        from finetune.tasks import ALIVE

        hosts = {beat.host for beat in self.beats.workers(self.clock.now() - ALIVE)}
        if hosts - {socket.gethostname()}:
            return None
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 20

    def _eligible(self, provider: str, recipe: "Recipe") -> "list[Problem]":
        """The same, what `limits` ask of the model, and too small own machines, where another target may be chosen."""
        from finetune.catalogue.weights import LOCAL
        from finetune.plan import AUTO
        from finetune.targets import lacking

        found = super()._eligible(provider, recipe)
        found += lacking(self.catalogue, provider, recipe, self.scores, files=self._reads)
        if provider != LOCAL or recipe.provider != AUTO or any(each.level == "error" for each in found):
            return found
        # One token: what no row's length can change.
        return [*found, *(replace(each, level="error") for each in self.memory_of(recipe, 1)[1])]

    def _reads(self, base_model: str) -> int | None:
        """Tokens of one request, by the config.json that is on this machine."""
        from finetune.memory import Unknown

        try:
            return self.shape(base_model).context
        except Unknown:
            return None

    def _foresee(self, recipe: "Recipe", size: "Size") -> "Estimate":
        from finetune.catalogue.weights import LOCAL
        from finetune.estimates import Estimate
        from finetune.targets import own

        provider, base_model = recipe.provider, recipe.base_model
        alike = (job for job in self._looked_back() if (job.provider, job.base_model) == (provider, base_model))
        time = self._time_of(alike, recipe)(recipe, size)
        memory = cost = None
        if provider == LOCAL and self.settings.card_hour_usd is not None and time.seconds is not None:
            cost = own(self.settings.card_hour_usd, time, recipe.resources.gpus or 1)
        # Rows are read for the sake of what is known only.
        if provider == LOCAL and self.memory_of(recipe, 1)[0] is not None:
            memory, _ = self.memory_of(recipe, size.longest(base_model))
        return Estimate(seconds=time.seconds, seconds_by=time.by, memory=memory, cost=cost)

    def _looked_back(self) -> "Iterator[Job]":
        return iter(self.jobs.recent(limit=_LOOKED_BACK))

    def _time_of(self, jobs: "Iterator[Job]", asked: "Recipe") -> "TimeOf":
        """How long a training takes that asks for these resources: as those jobs have, else by the cards' published
        speed. A processor tells nothing of cards, nor they of it.
        """
        from finetune.targets import pace

        measured = pace(jobs, lambda job: self._took(job, on_cards=self._on_cards(asked)))

        def time_of(recipe: "Recipe", size: "Size") -> "Time":
            rows = size.train_rows * recipe.training.epochs
            return measured(recipe.provider, recipe.base_model, rows) or self._reckoned(recipe, size)

        return time_of

    def _reckoned(self, recipe: "Recipe", size: "Size") -> "Time":
        from finetune.catalogue import cards
        from finetune.catalogue.weights import LOCAL
        from finetune.estimates import Rows, Time, by_card

        if recipe.provider != LOCAL:
            return Time(basis="no training of this model has ended there yet")
        base_model = recipe.base_model
        rows = Rows(
            train=size.train_rows,
            held_back=size.validation_rows,
            tokens=lambda: size.tokens(base_model),
            longest=lambda: size.longest(base_model),
        )
        # The sheet is read where there is a card only.
        return by_card(recipe, lambda: self.shape(base_model), self.cards, lambda name: cards.load().tflops(name), rows)

    def _took(self, job: "Job", on_cards: bool | None = None) -> float | None:
        """Seconds of a training; None: it was not ours. At a hosted provider with its own queue, here without.

        `on_cards`: of those here, the ones on cards, or on processors, alone.
        """
        from finetune.placement import from_row

        if job.run_key is None or job.finished_at is None or job.admitted_at is None:
            return None
        if run := self.runs.get_run(job.run_key):
            devices = from_row(run.placed).devices
            return run.card_s / (len(devices) or 1) if on_cards in (None, bool(devices)) else None
        return (job.finished_at - job.admitted_at).total_seconds()
