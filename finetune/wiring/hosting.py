"""The parts that deploy at providers: where a version is hosted, what that costs, whether it is agreed to."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from finetune.errors import EvaluationError, GatewayError, GatewayUnavailable, NotEligible, Problem, ProviderError
from finetune.wiring.parts import Parts

if TYPE_CHECKING:
    from finetune.abilities import BaseAt
    from finetune.deployments import Gateway, Upstream
    from finetune.jobs import Json
    from finetune.spec import Recipe
    from finetune.submission import Ready
    from finetune.versions import ModelVersion


class Hostings(Parts):
    """The parts, with providers' own hosting."""

    def _host(self, name: str) -> "Gateway | None":
        """The hosting of the provider of this name; None: it has none, or answers without."""
        from finetune.abilities import Deployable
        from finetune.hosting import Host

        provider = self.providers.get(name)
        return Host(name, provider) if isinstance(provider, Deployable) else None

    def _host_of(self, model: "ModelVersion") -> str | None:
        if "path" in model.artifact or not isinstance(model.artifact.get("model"), str):
            return None
        return model.provider if self._host(model.provider) else None

    def _deployed(self, model: "ModelVersion") -> "Upstream":
        """Where a version answers that its provider has deployed. Raises GatewayError: our books have no such."""
        from finetune.abilities import Deployable

        provider = self.provider(model.provider)
        assert isinstance(provider, Deployable)
        mine = [each for each in self.promotions.placed() if (each.name, each.version) == (model.name, model.version)]
        for each in mine:
            if each.gateway == model.provider:
                try:
                    return provider.hosted_at(each.listed_as)
                except ProviderError as error:
                    raise GatewayError(*error.problems) from error
        raise GatewayError(
            Problem(
                code="E837",
                what=f"{model.ref} is not deployed at {model.provider}, so it answers nowhere",
                why="it costs by the hour from when it is deployed, so ft deploys it with a promotion only",
                fix=f"ft promote {model.ref} --to staging --gateway litellm --max-hosting ...; that measures it",
            )
        )

    def _base_of(self, model: "ModelVersion", sure: bool) -> "Json | None":
        """How the base of a version is asked whose provider deploys it; None: it does not. See `Measurer`."""
        from finetune.abilities import Deployable
        from finetune.measuring import asked

        provider = self.providers.get(model.provider)
        if not isinstance(provider, Deployable):
            return None
        try:
            base = provider.base_at(model.base_model)
        except ProviderError as error:
            raise (GatewayUnavailable if error.retry else GatewayError)(*error.problems) from error
        if base.at is None or (sure and not base.known):
            raise EvaluationError(unanswered(model.provider, model.base_model, base))
        return asked(base.at, model.base_model, model)

    def untold(self, ready: "Ready") -> "list[Problem]":
        """That nothing answers as the base that a promotion will ask, told before the training is paid for.

        Asks the provider. Silent where it cannot be asked: a promotion asks again before it deploys.
        """
        from finetune.abilities import Deployable
        from finetune.plan import placed
        from finetune.wiring.gates import over_its_base

        recipe = ready.file.recipe.model_copy(update={"provider": ready.plan.provider})
        wanted, provider = recipe.register, self.providers.get(recipe.provider)
        if wanted is None or not wanted.gateways or not isinstance(provider, Deployable):
            return []
        if not over_its_base(recipe, self.registry.version):
            return []
        try:
            base = provider.base_at(recipe.base_model)
        except ProviderError:
            return []
        if base.at is not None:
            return []
        found = unanswered(recipe.provider, recipe.base_model, base)
        field = "gate" if recipe.gate else "register.gateways"
        return placed(ready.file, [replace(found, level="warning", field=field)])

    def _aimed(self, recipe: "Recipe") -> "Recipe":
        """The recipe with the target that `auto` chooses, prices left aside; as it is when none takes it.

        Sends nothing.
        """
        from finetune.plan import AUTO, choose
        from finetune.spec import RecipeFile

        if recipe.provider != AUTO:
            return recipe
        file, terms = RecipeFile(recipe=recipe, path=Path()), self._conditions
        try:
            choice = choose(file, self.providers, terms.eligible, called=terms.called)
        except NotEligible:
            return recipe
        return recipe.model_copy(update={"provider": choice.provider, "base_model": choice.base_model})

    def _hostable(self, recipe: "Recipe") -> list[Problem]:
        """What stands against deploying what the recipe makes, and what that will cost, before it is trained."""
        from finetune.hosting import Host, against, notice
        from finetune.spec.types import dollars

        wanted = recipe.register
        host = self._host(recipe.provider) if wanted and wanted.gateways else None
        if not isinstance(host, Host) or wanted is None:
            return []
        hosting = host.hosting(recipe.base_model)
        accepted = dollars(wanted.max_hosting) if wanted.max_hosting else None
        problem = against(recipe.name, hosting, accepted) or notice(recipe.name, hosting)
        return [replace(problem, field="register.max_hosting")] if problem else []


def unanswered(provider: str, base_model: str, base: "BaseAt") -> Problem:
    """That nothing is sure to answer as this base, so that nothing can be compared with it."""
    ways = "`gate: {over: ALIAS}` in the recipe, or `ft promote --over ALIAS`, compares with the version that it has"
    own = "`ft eval MODEL --at URL` measures where both answer, for a promotion with --no-gate"
    return Problem(
        code="E861",
        what=f"{base_model} answers nowhere at {provider}, so nothing tuned from it can be compared with it there",
        why=base.why,
        fix="; or ".join(each for each in (base.fix, ways, own) if each),
    )
