"""What would happen: the target that takes this recipe, and in how many steps; or every reason why none does."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from finetune.errors import NotEligible, Problem
from finetune.ports import Provider
from finetune.spec import Recipe, RecipeFile, default, explicit

AUTO = "auto"

#: What is done before a provider sees the recipe, so that none has to honour it.
OURS = frozenset({"version", "name", "provider", "dataset", "validation", "privacy", "allow_ignored"})


@dataclass(frozen=True, kw_only=True)
class Considered:
    """One provider and what stands against it; nothing does when `problems` is empty."""

    provider: str
    problems: tuple[Problem, ...]


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The target that takes a recipe."""

    provider: str
    base_model: str
    #: All that were looked at; the chosen one is among them.
    considered: tuple[Considered, ...]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A recipe, its data and the target that was chosen."""

    provider: str
    base_model: str
    train_rows: int
    validation_rows: int
    #: Optimiser steps over all epochs.
    steps: int
    considered: tuple[Considered, ...]

    @property
    def target(self) -> str:
        """`provider/base_model`."""
        return f"{self.provider}/{self.base_model}"


def choose(file: RecipeFile, providers: Mapping[str, Provider]) -> Choice:
    """Choose the target. Sends nothing. Raises NotEligible with every reason, each at its line of the recipe."""
    recipe = file.recipe
    wanted = providers if recipe.provider == AUTO else {recipe.provider: _named(file, providers)}
    considered = tuple(
        Considered(provider=name, problems=tuple(_against(file, provider))) for name, provider in wanted.items()
    )
    chosen = next((one for one in considered if not one.problems), None)
    if chosen is None:
        raise NotEligible(*(problem for one in considered for problem in one.problems))
    return Choice(provider=chosen.provider, base_model=recipe.base_model, considered=considered)


def planned(recipe: Recipe, choice: Choice, train_rows: int, validation_rows: int) -> Plan:
    """What will be done with so many rows."""
    return Plan(
        provider=choice.provider,
        base_model=choice.base_model,
        train_rows=train_rows,
        validation_rows=validation_rows,
        steps=math.ceil(train_rows / recipe.training.batch_size) * recipe.training.epochs,
        considered=choice.considered,
    )


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


def _against(file: RecipeFile, provider: Provider) -> list[Problem]:
    found = []
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
