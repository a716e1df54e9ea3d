"""Every target side by side for one recipe: whether it takes it, what that costs, until when, and which is chosen.

A row a sheet of the catalogue: those who train, and those who only make, host or serve models, with the way that there
is instead. The decision, in this order: what stands against a target (model, method, dates, limits of the recipe) rules
it out; then this machine before a hosted API, one that is set up before one that isn't, the lower highest cost before
a higher or unknown one, and the name.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from decimal import ROUND_UP, Decimal
from enum import StrEnum
from typing import Final, Literal

from finetune.abilities import Keyed
from finetune.catalogue import Catalogue, Cost, Method, ProviderSheet
from finetune.catalogue.costs import training
from finetune.catalogue.values import Day
from finetune.catalogue.weights import LOCAL, called, context, nameless, parameters, slip, stand_in
from finetune.errors import Problem
from finetune.estimates import Time
from finetune.jobs import Job, JobState
from finetune.plan import AUTO, Eligible, against, dear, few, placed, preference, unmet
from finetune.ports import Provider
from finetune.spec import Recipe, RecipeFile, default
from finetune.spec.types import least_score

_CENT: Final = Decimal("0.01")
_MINUTE_S, _HOUR_S = 60, 3600
#: Up to how many times the nearest one's distance in rows trainings count as well.
_ALIKE: Final = 2
_UNPRICED: Final = Cost(basis="own machines; FT_GPU_HOUR_USD says what an hour of theirs costs")
#: Warnings that leave open whether it can be trained: a term that nobody here can look up, cards that are too small.
_CONDITIONS: Final = ("E309", "E321")
_ORDER: Final = ("trainer", "maker", "host", "server", "gateway")

#: What a training costs: provider, recipe, tokens of one epoch at least and at most.
CostOf = Callable[[str, Recipe, tuple[int, int]], Cost]
#: How long a training takes: recipe with its target, and what is trained on.
TimeOf = Callable[[Recipe, "Size"], Time]
#: How long trainings have taken here: provider, base model, rows with epochs multiplied in; None: none has ended.
Pace = Callable[[str, str, int], Time | None]
#: See `Market.files`.
Reads = Callable[[str], int | None]
#: See `Market.memory_of`.
MemoryOf = Callable[[Recipe, int], tuple[tuple[int, int] | None, Sequence[Problem]]]


class Verdict(StrEnum):
    """Whether a target takes the recipe."""

    #: It does, and comes first by the decision above.
    CHOSEN = "chosen"
    #: It does.
    POSSIBLE = "possible"
    #: It does where a condition holds that nobody here can look up, or credentials are set.
    CONDITIONAL = "conditional"
    #: It does not.
    NO = "no"


@dataclass(frozen=True, kw_only=True)
class Target:
    """One row."""

    name: str
    title: str
    #: See `ProviderSheet.kind`.
    kind: str
    #: The recipe's model, or the same weights, as this target calls them; None: it has them not.
    base_model: str | None = None
    cost: Cost | None = None
    #: None: nothing is trained there, or not this model.
    time: Time | None = None
    #: Of a card here, bytes, at least and at most; None: not known, or not trained here.
    memory: tuple[int, int] | None = None
    #: Whether the data leaves this installation; None where nothing is trained.
    leaves: bool | None = None
    #: Tokens of one request; None: not published.
    context: int | None = None
    #: Keys of what can answer with the result.
    served: tuple[str, ...] = ()
    #: Those of them that are set up here.
    served_here: tuple[str, ...] = ()
    create_until: date | None = None
    serve_until: date | None = None
    #: Whether the source promises only that these are not earlier.
    create_at_least: bool = False
    serve_at_least: bool = False
    verdict: Verdict
    #: Why: what stands against it, or what should be known.
    reasons: tuple[Problem, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Market:
    """What is known of targets, as functions."""

    catalogue: Catalogue
    providers: Mapping[str, Provider]
    eligible: Eligible
    cost_of: CostOf
    time_of: TimeOf
    #: What stands against measuring and serving what a recipe makes, with its field.
    servable: Callable[[Recipe], Sequence[Problem]] = lambda recipe: ()
    #: Keys of gateways that are set up here.
    here: Collection[str] = ()
    #: US dollars an hour of a card here; None: nobody has said.
    card_hour_usd: Decimal | None = None
    #: Memory that the local trainer needs for a recipe with a longest row of so many tokens, and what should be known
    #: of that.
    memory_of: MemoryOf = lambda recipe, longest: (None, ())
    #: Tokens of one request of a model, by its files on this machine; None: it has none here.
    files: Reads = lambda base_model: None


@dataclass(frozen=True, kw_only=True)
class Size:
    """What is to be trained on."""

    train_rows: int
    validation_rows: int
    #: Of one epoch, at least and at most, as a base model counts them.
    tokens: Callable[[str], tuple[int, int]]
    #: Of the longest row, at most; 0: not looked at.
    longest: Callable[[str], int] = lambda base_model: 0


def compare(file: RecipeFile, size: Size, market: Market) -> list[Target]:
    """All targets, those that take the recipe first. Sends nothing; reckons for minutes where the data is large."""
    names = {*market.catalogue.sheets, *market.providers}
    found = [_Row(file, size, market, name).target() for name in sorted(names)]
    wanted = [each for each in found if file.recipe.provider in (AUTO, each.name) and each.verdict is not Verdict.NO]
    chosen = None
    for each in sorted(wanted, key=lambda each: preference(each.name, market.providers, each.cost)):
        against = _after(file, each, market)
        if not against:
            chosen = each.name
            break
        found[found.index(each)] = replace(each, verdict=Verdict.NO, reasons=tuple(against))
    rows = [replace(each, verdict=Verdict.CHOSEN) if each.name == chosen else each for each in found]
    return sorted(rows, key=_place)


def _after(file: RecipeFile, target: Target, market: Market) -> list[Problem]:
    """What stands against measuring and serving what this target would make."""
    recipe = file.recipe.model_copy(update={"provider": target.name, "base_model": target.base_model})
    return [each for each in placed(file, market.servable(recipe)) if each.level == "error"]


def ungiven(catalogue: Catalogue, name: str, base_model: str) -> Problem | None:
    """That this target has not got the model, as far as the catalogue knows; None: it has, or may have."""
    if name == LOCAL and (near := slip(catalogue, base_model)):
        what, why = f"nobody is known to have {base_model}", f"it is close to {near}, so it may be a slip"
        fix = f"did you mean `base_model: {near}`? A folder of that name is written ./{base_model}"
        return Problem(code="E306", what=what, why=why, fix=fix, field="base_model")
    if called(catalogue, name, base_model) is not None:
        return None
    other = stand_in(catalogue, name, base_model)
    instead = f"`base_model: {other}` stands in" if other else ""
    if name == LOCAL and (said := nameless(catalogue, base_model)):
        what, why = said
        own = f"name the weights that you mean, on the hub (owner/name) or in a folder (./{base_model})"
        return Problem(code="E306", what=what, why=why, fix="; ".join(filter(None, (own, instead))), field="base_model")
    what = f"the catalogue knows no weights of {base_model} on the hub"
    why = "it is how an API calls a model, and of no weights there does a sheet say that they are the same"
    fix = instead or "name open weights, on the hub or in a folder"
    return Problem(code="E306", what=what, why=why, fix=fix, field="base_model")


def reckoned(catalogue: Catalogue, name: str, recipe: Recipe, tokens: tuple[int, int]) -> Cost:
    """What a training of this recipe costs there on so many tokens (at least, at most; of one epoch)."""
    return by_tokens(catalogue, name, recipe.method, recipe.base_model, tokens, recipe.training.epochs)


def by_tokens(
    catalogue: Catalogue, name: str, method: Method, base_model: str, tokens: tuple[int, int], epochs: int
) -> Cost:
    """The same, without a recipe."""
    sheet = catalogue.provider(name)
    if sheet is None:
        return Cost(basis=f"the catalogue does not know {name}")
    size = parameters(catalogue, base_model)
    return training(sheet, method, base_model, tokens=tokens, epochs=epochs, parameters=size)


def lacking(
    catalogue: Catalogue,
    name: str,
    recipe: Recipe,
    scores: Mapping[str, Mapping[str, float]],
    *,
    files: Reads = lambda base_model: None,
) -> list[Problem]:
    """What this target's model lacks of what `limits` ask for. `scores` are those imported, by name and model.

    `files`: see `Market.files`.
    """
    sheet, wanted = catalogue.provider(name), recipe.limits.quality
    model = sheet.model(recipe.base_model) if sheet else None
    table = scores.get(least_score(wanted)[0], {}) if wanted else {}
    weights = [model.open_weights.value] if model and model.open_weights else []
    names = (recipe.base_model, *((model.name, *model.aliases) if model else ()), *weights)
    score = next((table[each] for each in names if each in table), None)
    # Of a model on the hub its files are not looked for without need: what finds them takes a while to be imported.
    reads = _context(catalogue, name, recipe.base_model, files) if recipe.limits.min_context is not None else None
    return unmet(recipe, sheet.title if sheet else name, reads, score, scores)


def _context(catalogue: Catalogue, name: str, base_model: str, files: Reads) -> int | None:
    sheet, own = catalogue.provider(name), files(base_model) if name == LOCAL else None
    return own or context(catalogue, sheet.model(base_model) if sheet else None, base_model)


def _place(target: Target) -> tuple[bool, bool, int, str]:
    return target.verdict is not Verdict.CHOSEN, target.verdict is Verdict.NO, _ORDER.index(target.kind), target.name


def pace(jobs: Iterable[Job], took: Callable[[Job], float | None]) -> Pace:
    """How long trainings take, by those that have succeeded here, of whose sizes the nearest count.

    More rows take as long at least and, as what comes before the first step comes once, their share of rows longer at
    most; fewer rows the other way round. `took`: the seconds of one; None: it does not count.
    """
    seen: dict[tuple[str, str], list[tuple[int, float]]] = {}
    for job in jobs:
        # As an older ft may have written it.
        epochs = (job.recipe.get("training") or {}).get("epochs", default("training.epochs"))
        rows = job.data.get("train_rows", 0) * epochs
        if job.state is JobState.SUCCEEDED and rows and (seconds := took(job)):
            seen.setdefault((job.provider, job.base_model), []).append((rows, seconds))

    def measured(provider: str, base_model: str, rows: int) -> Time | None:
        found = seen.get((provider, base_model))
        if not found:
            return None
        nearest = min(max(rows, each) / min(rows, each) for each, _ in found) if rows else 1
        alike = [(each, s) for each, s in found if max(rows, each) <= min(rows, each) * nearest * _ALIKE] or found
        ends = [end for each, seconds in alike for end in (seconds, seconds * rows / each)]
        basis = f"as {len(alike)} trainings of this model have taken" if alike[1:] else "as one of this model has taken"
        return Time(seconds=(min(ends), max(ends)), by="trainings", basis=basis)

    return measured


class _Row:
    """One target looked at."""

    def __init__(self, file: RecipeFile, size: Size, market: Market, name: str) -> None:
        self._asked, self._size, self._market, self._name = file, size, market, name
        self._sheet = market.catalogue.provider(name)
        self._provider = market.providers.get(name)
        there = called(market.catalogue, name, file.recipe.base_model)
        self._model = self._sheet.model(there) if self._sheet and there else None
        self._there = there
        changed = {"provider": name, "base_model": there or file.recipe.base_model}
        self._file = replace(file, recipe=file.recipe.model_copy(update=changed))

    def target(self) -> Target:
        sheet = self._sheet
        kind = sheet.kind if sheet else "trainer"
        row = Target(
            name=self._name, title=sheet.title if sheet else self._name, kind=kind, verdict=Verdict.NO, reasons=()
        )
        if sheet is not None and (kind != "trainer" or (sheet.tunes is not None and not sheet.tunes.value)):
            served, here = self._served()
            return replace(row, served=served, served_here=here, reasons=(_elsewhere(sheet),))
        return self._trained(row)

    def _trained(self, row: Target) -> Target:
        recipe = self._file.recipe
        said = self._market.eligible(self._name, recipe) if self._there else [self._unknown()]
        looked = placed(self._file, said)
        errors = [each for each in looked if each.level == "error"]
        warnings = [each for each in looked if each.level == "warning"]
        if self._provider is None:
            errors.append(_no_adapter(row.title))
        else:
            errors += against(self._file, self._provider)
        served, here = self._served()
        create, serve = self._first("create_until"), self._first("serve_until")
        row = replace(
            row,
            base_model=self._there,
            leaves=self._name != LOCAL,
            context=_context(self._market.catalogue, self._name, self._there or "", self._market.files),
            served=served,
            served_here=here,
            create_until=create.value if create else None,
            serve_until=serve.value if serve else None,
            create_at_least=bool(create and create.at_least),
            serve_at_least=bool(serve and serve.at_least),
        )
        rules = self._sheet.rules(recipe.method, recipe.base_model) if self._sheet else None
        errors += few(self._file, rules, self._size.train_rows)
        if self._there is not None:
            row, found = self._priced(row)
            errors += [each for each in found if each.level == "error"]
            warnings += [each for each in found if each.level == "warning"]
        missing: list[Problem] = self._provider.unconfigured() if isinstance(self._provider, Keyed) else []
        sure = not (missing or any(each.code in _CONDITIONS for each in warnings))
        verdict = Verdict.NO if errors else Verdict.POSSIBLE if sure else Verdict.CONDITIONAL
        return replace(row, verdict=verdict, reasons=tuple(errors or (*missing, *warnings)))

    def _priced(self, row: Target) -> tuple[Target, list[Problem]]:
        recipe, size, over = self._file.recipe, self._size, list[Problem]()
        time = self._market.time_of(recipe, size)
        if self._name == LOCAL:
            memory, tight = self._market.memory_of(recipe, size.longest(recipe.base_model))
            row, over = replace(row, memory=memory), placed(self._file, tight)
            cost = own(self._market.card_hour_usd, time, recipe.resources.gpus or 1)
        else:
            cost = self._market.cost_of(self._name, recipe, size.tokens(recipe.base_model))
        # Of own machines that nobody has named a price of, nothing is held against the limit.
        if cost.known or self._name != LOCAL:
            over += [found] if (found := dear(self._file, f"{self._name}/{recipe.base_model}", cost)) else []
        limit = recipe.limits.deadline_s
        if time.seconds is not None and limit is not None and time.seconds[0] > limit:
            least = f"{_long(time.seconds[0])} and more"
            what = f"such a training takes {least}, and limits.deadline is {recipe.limits.deadline}"
            fix = "raise it, or train on fewer rows"
            over.append(self._file.problem("E316", "limits.deadline", what, why=f"reckoned {time.basis}", fix=fix))
        return replace(row, cost=cost, time=time), over

    def _served(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """What can answer with the result, and what of it is set up here: gateways, and providers with credentials."""
        every = tuple(each.at for each in self._sheet.served) if self._sheet else ()
        found = {at: self._market.providers.get(at) for at in every}
        ready = {at for at, each in found.items() if isinstance(each, Keyed) and not each.unconfigured()}
        return every, tuple(at for at in every if at in ready or at in self._market.here)

    def _first(self, which: Literal["create_until", "serve_until"]) -> Day | None:
        """The earlier day of the provider's and the model's; of the same day, the one that is certain."""
        every = (getattr(each.dates, which) for each in (self._sheet, self._model) if each)
        return min((day for day in every if day), key=lambda day: (day.value, day.at_least), default=None)

    def _unknown(self) -> Problem:
        """Why its sheet has not got the model; the catalogue's own words."""
        said = self._market.eligible(self._name, self._file.recipe)
        return next(
            (each for each in said if each.level == "error"),
            Problem(code="E306", what=f"{self._name} has no {self._file.recipe.base_model}", field="base_model"),
        )


def _long(seconds: float) -> str:
    """A length of time as people read it, never as nothing."""
    if seconds < _HOUR_S:
        return f"{seconds:.1f} s" if seconds < _MINUTE_S else f"{seconds / _MINUTE_S:.0f} min"
    return f"{seconds / _HOUR_S:.1f} h"


def own(card_hour_usd: Decimal | None, time: Time, cards: int) -> Cost:
    """What own machines cost, by how long such a training takes on them."""
    if card_hour_usd is None:
        return _UNPRICED
    if time.seconds is None:
        return Cost(basis=f"{card_hour_usd} an hour of a card, and its time is not known: {time.basis}")
    low, high = ((Decimal(each) * cards / 3600 * card_hour_usd).quantize(_CENT, ROUND_UP) for each in time.seconds)
    by = "by trainings that have run here" if time.by == "trainings" else "by the card's published speed"
    return Cost(low_usd=low, high_usd=high, basis=f"{cards} x {card_hour_usd} an hour, {by}")


def _elsewhere(sheet: ProviderSheet) -> Problem:
    """Why nothing is trained there, in no more words than its source has, and the ways that there are instead."""
    ways = "; ".join(each.value + (f" (`provider: {each.at}`)" if each.at else "") for each in sheet.ways)
    if sheet.tunes is None:
        what, why = f"that {sheet.title} tunes models for others is not published", ""
    else:
        what = f"{sheet.title} tunes no models" + (f": {sheet.tunes.note}" if sheet.tunes.note else "")
        why = f"the source is {sheet.sources[sheet.tunes.source].url}"
    return Problem(code="E319", what=what, why=why, fix=ways or "name another target")


def _no_adapter(title: str) -> Problem:
    return Problem(
        code="E302",
        what=f"this installation has no adapter for {title}",
        why="the catalogue knows what it offers, and nothing here speaks to it",
        fix="install a package that brings one (entry point `ft.providers`), or choose another target",
    )
