"""Which target takes a recipe, by what stands against each and, where that decides it, by what each costs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from finetune.abilities import Keyed
from finetune.catalogue import Cost, DataRules, Method
from finetune.errors import NotEligible, Problem
from finetune.estimates import Estimate
from finetune.plan import AUTO, Called, Choice, Eligible, Weigh, aimed, choose, dear, few, placed
from finetune.ports import Provider
from finetune.spec import Recipe, RecipeFile
from finetune.targets import CostOf, Size
from finetune.turns import Caps

Foresee = Callable[[Recipe, Size], Estimate]
#: What is known of a target's limits: provider, method and base model to rules, or None.
RulesOf = Callable[[str, Method, str], DataRules | None]


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """What recipes meet here, as functions: what the catalogue knows, with an answer for providers that it does not."""

    rules_of: RulesOf
    eligible: Eligible
    cost_of: CostOf
    called: Called = lambda name, base_model: base_model
    #: What stands against measuring and serving what a recipe makes, with its field.
    servable: Callable[[Recipe], Sequence[Problem]] = lambda recipe: ()
    #: What may be under way at once. Without any, nothing waits for its turn.
    caps: Caps = field(default_factory=dict)
    #: What a training is foreseen to take: recipe with its target, and what is trained on.
    foresee: Foresee = lambda recipe, size: Estimate()
    #: Whether somebody has said what own machines cost, so that a limit can be held against it.
    own_priced: bool = False


#: The target, or what to raise where there is none.
Chosen = tuple[Choice | None, NotEligible | None]


@dataclass(frozen=True)
class Chooser:
    """Chooses among these. Sends nothing."""

    providers: Mapping[str, Provider]
    conditions: Conditions

    def choose(self, file: RecipeFile, sized: Callable[[Sequence[str]], Size | None]) -> Chosen:
        """The target, or everything that stands against all of them, and against what shall follow the training.

        `sized` is asked where costs decide: what is to be trained on, by the names of base models whose tokens it has
        to know; None: it cannot tell, and then they decide nothing.
        """
        choice, against = self._chosen(file, None)
        rivals = self.rivals(file, choice) if choice else []
        size = sized(rivals) if rivals else None
        if size is None:
            return choice, against

        def weigh(provider: str, base_model: str) -> tuple[Cost, list[Problem]]:
            return self._weighed(aimed(file, base_model), provider, size)

        return self._chosen(file, weigh)

    def rivals(self, file: RecipeFile, choice: Choice) -> list[str]:
        """How those that could train it call the base model, where costs decide which does, or whether; else none."""
        able, wanted = [one.provider for one in choice.considered if not one.problems], file.recipe.base_model
        limited = file.recipe.limits.max_cost is not None and (choice.hosted or self.conditions.own_priced)
        if not limited and (not choice.hosted or len(able) == 1):
            return []
        return [self.conditions.called(name, wanted) or wanted for name in able]

    def _weighed(self, file: RecipeFile, provider: str, size: Size) -> tuple[Cost, list[Problem]]:
        """What this provider costs, and what stands against that and the rows."""
        recipe, base_model, against = file.recipe, file.recipe.base_model, list[Problem]()
        if recipe.provider == AUTO:
            # Of one that is named, whoever reads the data says so.
            against += few(file, self.conditions.rules_of(provider, recipe.method, base_model), size.train_rows)
        if isinstance(self.providers[provider], Keyed):
            cost = self.conditions.cost_of(provider, recipe, size.tokens(base_model))
        else:
            there = recipe.model_copy(update={"provider": provider})
            # Not known: nothing is billed, and none of it is held against the limit before it runs.
            cost = self.conditions.foresee(there, size).cost or Cost()
            if not cost.known:
                return cost, against
        too_dear = dear(file, f"{provider}/{base_model}", cost)
        return cost, [*against, too_dear] if too_dear else against

    def _chosen(self, file: RecipeFile, weigh: Weigh | None) -> Chosen:
        recipe, conditions = file.recipe, self.conditions
        choice, against = None, list[NotEligible]()
        try:
            choice = choose(file, self.providers, conditions.eligible, called=conditions.called, weigh=weigh)
            recipe = recipe.model_copy(update={"provider": choice.provider, "base_model": choice.base_model})
        except NotEligible as error:
            against.append(error)
        after = placed(file, conditions.servable(recipe))
        if wrong := [each for each in after if each.level == "error"]:
            against.append(NotEligible(*(each for error in against for each in error.problems), *wrong))
        if choice is None or against:
            return None, against[-1]
        told = tuple(each for each in after if each.level == "warning")
        mine = (
            replace(one, warnings=(*one.warnings, *told)) if one.provider == choice.provider else one
            for one in choice.considered
        )
        return replace(choice, considered=tuple(mine)), None
