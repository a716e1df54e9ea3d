"""What would happen: the target that takes this recipe, and in how many steps; or every reason why none does."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from finetune.abilities import Keyed
from finetune.catalogue import Cost
from finetune.errors import NotEligible, OverBudget, Problem
from finetune.ports import Provider
from finetune.spec import Recipe, RecipeFile, default, explicit

AUTO = "auto"

#: What is done before a provider sees the recipe or after it has trained, so that none has to honour it.
OURS = frozenset(
    {"version", "name", "provider", "dataset", "validation", "privacy", "allow_ignored", "gate", "register"}
)


#: What the catalogue says of a target today: provider and recipe to problems, of which some are warnings.
Eligible = Callable[[str, Recipe], Sequence[Problem]]


@dataclass(frozen=True, kw_only=True)
class Considered:
    """One provider and what stands against it; nothing does when `problems` is empty."""

    provider: str
    problems: tuple[Problem, ...]
    #: What does not stand in the way and should be known: conditions, dates.
    warnings: tuple[Problem, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The target that takes a recipe."""

    provider: str
    base_model: str
    #: Whether it is a hosted API, which bills and gets the data.
    hosted: bool
    #: All that were looked at; the chosen one is among them.
    considered: tuple[Considered, ...]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A recipe, its data and the target that was chosen."""

    provider: str
    base_model: str
    train_rows: int
    validation_rows: int
    #: Optimiser steps over all epochs; None where the target chooses its own batch size.
    steps: int | None
    epochs: int
    considered: tuple[Considered, ...]
    #: What a hosted API will bill; None for one that bills nothing, and before the rows were counted.
    cost: Cost | None = None
    hosted: bool = False

    @property
    def target(self) -> str:
        """`provider/base_model`."""
        return f"{self.provider}/{self.base_model}"

    @property
    def warnings(self) -> tuple[Problem, ...]:
        """What should be known of the target."""
        return next((one.warnings for one in self.considered if one.provider == self.provider), ())


def choose(file: RecipeFile, providers: Mapping[str, Provider], eligible: Eligible = lambda name, recipe: ()) -> Choice:
    """Choose the target. Sends nothing. Raises NotEligible with every reason, each at its line of the recipe.

    With `provider: auto` this machine comes first: it costs nothing, and the data stays here. Then come those whose
    credentials are set.
    """
    recipe = file.recipe
    every = sorted(providers.items(), key=_near)
    wanted = every if recipe.provider == AUTO else [(recipe.provider, _named(file, providers))]
    considered = tuple(
        _considered(file, name, provider, eligible(name, recipe) if isinstance(provider, Keyed) else ())
        for name, provider in wanted
    )
    chosen = next((one for one in considered if not one.problems), None)
    if chosen is None:
        raise NotEligible(*(problem for one in considered for problem in one.problems))
    return Choice(
        provider=chosen.provider,
        base_model=recipe.base_model,
        hosted=isinstance(providers[chosen.provider], Keyed),
        considered=considered,
    )


def planned(recipe: Recipe, choice: Choice, train_rows: int, validation_rows: int) -> Plan:
    """What will be done with so many rows."""
    own_batches = choice.hosted and "training.batch_size" not in explicit(recipe)
    steps = math.ceil(train_rows / recipe.training.batch_size) * recipe.training.epochs
    return Plan(
        provider=choice.provider,
        base_model=choice.base_model,
        train_rows=train_rows,
        validation_rows=validation_rows,
        steps=None if own_batches else steps,
        epochs=recipe.training.epochs,
        considered=choice.considered,
        hosted=choice.hosted,
    )


def priced(file: RecipeFile, plan: Plan, cost: Cost) -> Plan:
    """The plan with its cost. Raises OverBudget."""
    recipe, limit = file.recipe, file.recipe.limits.max_cost_usd
    if limit is None:
        return replace(plan, cost=cost)
    if cost.high_usd is None:
        if "limits.max_cost" in recipe.allow_ignored:
            return replace(plan, cost=cost)
        problem = file.problem(
            "E310",
            "limits.max_cost",
            what=f"what {plan.target} costs cannot be held against limits.max_cost",
            why=f"the catalogue says: {cost.basis}",
            fix="look the price up and accept that with `allow_ignored: [limits.max_cost]`, or choose another target",
        )
        raise OverBudget(*plan.warnings, problem)
    if cost.high_usd > limit:
        problem = file.problem(
            "E311",
            "limits.max_cost",
            what=f"{plan.target} costs up to {cost.high_usd} US dollars, and limits.max_cost is {limit}",
            why=cost.basis,
            fix="raise limits.max_cost, or train on fewer rows or epochs",
        )
        raise OverBudget(*plan.warnings, problem)
    return replace(plan, cost=cost)


def ignored(recipe: Recipe, provider: Provider) -> dict[str, object]:
    """Fields the recipe sets, with their values, that the provider would do nothing about and nobody allowed.

    A field that repeats its default asks for nothing.
    """
    accepted = OURS | provider.honours | set(recipe.allow_ignored)
    return {
        field: value
        for field, value in explicit(recipe).items()
        if not _within(field, accepted) and value != default(field)
    }


def _near(item: tuple[str, Provider]) -> tuple[bool, bool]:
    provider = item[1]
    return isinstance(provider, Keyed), isinstance(provider, Keyed) and bool(provider.unconfigured())


def _considered(file: RecipeFile, name: str, provider: Provider, said: Sequence[Problem]) -> Considered:
    placed = [
        replace(file.problem(each.code, each.field or "", what=each.what, why=each.why, fix=each.fix), level=each.level)
        for each in said
    ]
    errors = [problem for problem in placed if problem.level == "error"]
    return Considered(
        provider=name,
        problems=(*errors, *_against(file, provider)),
        warnings=tuple(problem for problem in placed if problem.level == "warning"),
    )


def _against(file: RecipeFile, provider: Provider) -> list[Problem]:
    found = []
    if isinstance(provider, Keyed) and file.recipe.limits.data == "local_only":
        found.append(
            file.problem(
                "E312",
                "limits.data",
                what=f"{provider.name} gets the data, and the recipe keeps it here",
                why="a hosted API trains on an upload",
                fix="write `provider: local`, or allow it with `limits: {data: any}`",
            )
        )
    for field, value in ignored(file.recipe, provider).items():
        found.append(
            file.problem(
                "E301",
                field,
                what=f"{provider.name} does nothing about `{field}: {value}`",
                why="a field that the target ignores would give another result than the recipe says",
                fix=f"remove it, or accept that with `allow_ignored: [{field}]`",
            )
        )
    for problem in provider.check(file.recipe):
        place = file.problem(problem.code, problem.field or "", what=problem.what, why=problem.why, fix=problem.fix)
        found.append(place)
    return found


def _within(field: str, accepted: set[str] | frozenset[str]) -> bool:
    parts = field.split(".")
    return any(".".join(parts[:length]) in accepted for length in range(1, len(parts) + 1))


def _named(file: RecipeFile, providers: Mapping[str, Provider]) -> Provider:
    name = file.recipe.provider
    if name in providers:
        return providers[name]
    raise NotEligible(
        file.problem(
            "E302",
            "provider",
            what=f"this installation has no provider {name!r}",
            why=f"installed are {', '.join(sorted(providers))}",
            fix=f"write one of these, or `provider: {AUTO}`",
        )
    )
