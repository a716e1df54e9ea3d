"""What would happen: the target that takes this recipe, and in how many steps; or every reason why none does."""

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from finetune.abilities import Keyed
from finetune.catalogue import Cost, DataRules
from finetune.errors import NotEligible, OverBudget, Problem
from finetune.ports import Provider
from finetune.spec import Recipe, RecipeFile, default, explicit
from finetune.spec.types import least_score

AUTO = "auto"

#: What is done before a provider sees the recipe or after it has trained, so that none has to honour it.
OURS = frozenset(
    {
        *("version", "name", "provider", "dataset", "validation", "privacy", "allow_ignored", "gate", "register"),
        *("limits.min_context", "limits.quality"),
    }
)


#: What the catalogue says of a target today: provider and recipe to problems, of which some are warnings.
Eligible = Callable[[str, Recipe], Sequence[Problem]]
#: How a provider calls a base model, or the same weights; None: the catalogue knows no such there.
Called = Callable[[str, str], str | None]
#: What a training costs at this provider, on the model that it calls so; and what stands against the cost and the rows.
Weigh = Callable[[str, str], tuple[Cost, Sequence[Problem]]]

#: What is a question of money, not of the recipe: above the limit, or nobody knows.
_MONEY = ("E310", "E311")
_UNSAID = "the catalogue does not say how much {} reads in one request"


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


def choose(
    file: RecipeFile,
    providers: Mapping[str, Provider],
    eligible: Eligible = lambda name, recipe: (),
    *,
    called: Called = lambda name, base_model: base_model,
    weigh: Weigh | None = None,
) -> Choice:
    """Choose the target. Sends nothing. Raises NotEligible with every reason, each at its line of the recipe; see
    `refusal`.

    With `provider: auto` those that nothing stands against come in the order of `preference`; without `weigh` those
    that cost something are alike. Each is asked for the model by its own name of it, as is one that the recipe names.
    """
    wanted = providers if file.recipe.provider == AUTO else {file.recipe.provider: _named(file, providers)}
    names = {name: called(name, file.recipe.base_model) or file.recipe.base_model for name in wanted}
    seen, costs = list[Considered](), dict[str, Cost]()
    for name, provider in wanted.items():
        one = _considered(aimed(file, names[name]), name, provider, eligible)
        if weigh is not None and not one.problems:
            costs[name], against = weigh(name, names[name])
            one = replace(one, problems=tuple(against))
        seen.append(one)
    considered = tuple(sorted(seen, key=lambda one: preference(one.provider, providers, costs.get(one.provider))))
    chosen = next((one for one in considered if not one.problems), None)
    if chosen is None:
        raise refusal(one.problems for one in considered)
    return Choice(
        provider=chosen.provider,
        base_model=names[chosen.provider],
        hosted=isinstance(providers[chosen.provider], Keyed),
        considered=considered,
    )


def refusal(reasons: Iterable[Sequence[Problem]]) -> NotEligible:
    """What to raise where no target takes a recipe, by what stands against each: OverBudget, of those where only the
    budget is in the way, if there are any; else NotEligible, of all.
    """
    groups = list(reasons)
    money = [group for group in groups if group and all(each.code in _MONEY for each in group)]
    return (OverBudget if money else NotEligible)(*(each for group in money or groups for each in group))


def preference(name: str, providers: Mapping[str, Provider], cost: Cost | None) -> tuple[bool, bool, Decimal, str]:
    """What sorts targets that take a recipe: this machine, where the data stays and nothing is billed; those whose
    credentials are set; the lower highest cost, an unknown one last; the name.
    """
    provider = providers.get(name)
    hosted = isinstance(provider, Keyed)
    missing = isinstance(provider, Keyed) and bool(provider.unconfigured())
    high = cost.high_usd if cost is not None and cost.high_usd is not None else Decimal("Infinity")
    return hosted, missing, high, name


def aimed(file: RecipeFile, base_model: str) -> RecipeFile:
    """The recipe with this name of its base model."""
    if base_model == file.recipe.base_model:
        return file
    return replace(file, recipe=file.recipe.model_copy(update={"base_model": base_model}))


def unmet(
    recipe: Recipe, title: str, context: int | None, score: float | None, imported: Collection[str]
) -> list[Problem]:
    """What a target lacks of what `limits` ask for: the context of its model, the model's score.

    `imported`: the names that scores were imported by.
    """
    found, limits, accepted = [], recipe.limits, recipe.allow_ignored
    if limits.min_context is not None and "limits.min_context" not in accepted and (context or 0) < limits.min_context:
        model = f"{recipe.base_model} at {title}"
        reads = f"{model} reads {context:,} tokens in one request" if context else _UNSAID.format(model)
        what = f"{reads}, and {limits.min_context:,} are wanted"
        other = "choose a model that reads more" if context else "look it up and add it to the catalogue (FT_CATALOGUE)"
        fix = f"{other}, or accept it by `allow_ignored: [limits.min_context]`"
        found.append(Problem(code="E317", what=what, fix=fix, field="limits.min_context"))
    name, least = least_score(limits.quality) if limits.quality else ("", 0.0)
    if name and "limits.quality" not in accepted and (score is None or score < least):
        said = f"has {score:g} in" if score is not None else "is not in"
        what = f"{recipe.base_model} {said} the scores {name!r}, and {least:g} are wanted"
        others = f"`ft catalogue scores --name {name}` tells what each has"
        why, fix = "", f"choose another base model ({others}), ask for less, or `allow_ignored: [limits.quality]`"
        if name not in imported:
            what = f"no scores are called {name!r}"
            why = f"imported are {', '.join(sorted(imported))}" if imported else "none were imported yet"
            fix = f"`ft catalogue scores import FILE.csv --name {name}` imports them"
            fix = f"write one of these, or {fix}" if imported else fix
        found.append(Problem(code="E318", what=what, why=why, fix=fix, field="limits.quality"))
    return found


def planned(recipe: Recipe, choice: Choice, train_rows: int, validation_rows: int) -> Plan:
    """What will be done with so many rows."""
    return Plan(
        provider=choice.provider,
        base_model=choice.base_model,
        train_rows=train_rows,
        validation_rows=validation_rows,
        steps=steps(recipe, train_rows, hosted=choice.hosted),
        epochs=recipe.training.epochs,
        considered=choice.considered,
        hosted=choice.hosted,
    )


def steps(recipe: Recipe, train_rows: int, *, hosted: bool) -> int | None:
    """Optimiser steps over all epochs; None where the target chooses its own batch size."""
    if hosted and "training.batch_size" not in explicit(recipe):
        return None
    return math.ceil(train_rows / recipe.training.batch_size) * recipe.training.epochs


def priced(file: RecipeFile, plan: Plan, cost: Cost) -> Plan:
    """The plan with its cost. Raises OverBudget."""
    if problem := dear(file, plan.target, cost):
        raise OverBudget(*plan.warnings, problem)
    return replace(plan, cost=cost)


def dear(file: RecipeFile, target: str, cost: Cost) -> Problem | None:
    """What stands against this cost at that target, at its line of the recipe; None: nothing does."""
    recipe, limit = file.recipe, file.recipe.limits.max_cost_usd
    if limit is None or (cost.high_usd is None and "limits.max_cost" in recipe.allow_ignored):
        return None
    if cost.high_usd is None:
        return file.problem(
            "E310",
            "limits.max_cost",
            what=f"what {target} costs cannot be held against limits.max_cost",
            why=f"the catalogue says: {cost.basis}",
            fix="look the price up and accept that with `allow_ignored: [limits.max_cost]`, or choose another target",
        )
    if cost.high_usd > limit:
        return file.problem(
            "E311",
            "limits.max_cost",
            what=f"{target} costs up to {cost.high_usd} US dollars, and limits.max_cost is {limit}",
            why=cost.basis,
            fix="raise limits.max_cost, or train on fewer rows or epochs",
        )
    return None


def few(file: RecipeFile, rules: DataRules | None, rows: int) -> list[Problem]:
    """Whether these are too few or too many training rows for the target of the rules."""
    if rules is None:
        return []
    least, most = rules.min_rows or 0, rules.max_rows or rows
    return [
        file.problem(
            "E248",
            "dataset",
            what=f"{rules.target} takes at {word} {limit:,} training rows, and there are {rows:,}",
            fix="add rows, or take a part with `ft data split`",
        )
        for limit, wrong, word in ((least, rows < least, "least"), (most, rows > most, "most"))
        if wrong
    ]


def ignored(recipe: Recipe, provider: Provider) -> dict[str, object]:
    """Fields the recipe sets, with their values, that the provider would do nothing about and nobody allowed.

    A field that repeats its default asks for nothing.
    """
    accepted = OURS | provider.honours | set(recipe.allow_ignored)
    return {
        field: value
        for field, value in explicit(recipe).items()
        if not within(field, accepted) and value != default(field)
    }


def _considered(file: RecipeFile, name: str, provider: Provider, eligible: Eligible) -> Considered:
    found = placed(file, eligible(name, file.recipe))
    errors = [problem for problem in found if problem.level == "error"]
    return Considered(
        provider=name,
        problems=(*errors, *against(file, provider)),
        warnings=tuple(problem for problem in found if problem.level == "warning"),
    )


def placed(file: RecipeFile, said: Sequence[Problem]) -> list[Problem]:
    """What was said of fields, each at its line of the recipe."""
    return [
        replace(file.problem(each.code, each.field or "", what=each.what, why=each.why, fix=each.fix), level=each.level)
        for each in said
    ]


def against(file: RecipeFile, provider: Provider) -> list[Problem]:
    """What of the recipe this provider would ignore or cannot do, each at its line. Sends nothing."""
    found = []
    if isinstance(provider, Keyed) and file.recipe.limits.data == "local_only":
        found.append(
            file.problem(
                "E312",
                "limits.data",
                what=f"{provider.name} gets the data, and the recipe keeps it here",
                why="a hosted API trains on an upload",
                fix="train open weights by `provider: local`, or allow it with `limits: {data: any}`",
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
    said = provider.check(file.recipe)
    return [*found, *(replace(each, level="error") for each in placed(file, said))]


def within(field: str, accepted: set[str] | frozenset[str]) -> bool:
    """Whether this field, or a section around it, is one of these."""
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
