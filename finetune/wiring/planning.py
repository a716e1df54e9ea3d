"""The parts that compare targets, plan a version's recipe again, and take in what was trained elsewhere."""

from collections.abc import Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune.errors import NotEligible, Problem
from finetune.wiring.foresight import Foreseen, Foresight

if TYPE_CHECKING:
    from finetune.catalogue import Cost
    from finetune.importing import Imported
    from finetune.jobs import Job
    from finetune.offers import Offers
    from finetune.ports import Provider
    from finetune.retarget import Retarget
    from finetune.spec import Recipe, RecipeFile
    from finetune.spending import Spending
    from finetune.targets import Size, Target


class Planning(Foresight):
    """The parts, with those."""

    @cached_property
    def offers(self) -> "Offers":
        """What each provider offers."""
        from finetune.offers import Offers

        return Offers(self.providers, self.catalogue, self.clock.now().date())

    def targets(self, file: "RecipeFile") -> "list[Target]":
        """See `targets.compare`. Raises DataError, StateError; NotFound for a provider that nobody knows."""
        return self._compared(file)[0]

    def estimate(self, file: "RecipeFile", *, fetch: bool = False) -> Foreseen:
        """What the recipe takes at its target, or at the one that would be chosen. Sends nothing.

        With `fetch` the config.json of a base model that is not here is read from the model hub. Raises DataError,
        StateError, NotFound, NotEligible where none would be chosen.
        """
        from finetune.catalogue.weights import LOCAL, called
        from finetune.plan import refusal, steps
        from finetune.spec import rooted

        file = rooted(file)
        if fetch and (weights := called(self.catalogue, LOCAL, file.recipe.base_model)):
            # Before targets are compared: own machines are told by it.
            self.needs(file.recipe.model_copy(update={"base_model": weights}), 1, fetch=True)
        rows, size = self._compared(file)
        target = next((each for each in rows if each.name == file.recipe.provider or each.verdict == "chosen"), None)
        if target is None or target.base_model is None:
            raise refusal(each.reasons for each in rows if each.kind == "trainer")
        recipe = file.recipe.model_copy(update={"provider": target.name, "base_model": target.base_model})
        longest = size.longest(target.base_model)
        return Foreseen(
            target=target,
            size=size,
            tokens=size.tokens(target.base_model),
            longest=longest,
            steps=steps(recipe, size.train_rows, hosted=bool(target.leaves)),
            needs=self.needs(recipe, longest, fetch=fetch),
            cards_mb=self.cards_mb,
        )

    def _compared(self, file: "RecipeFile") -> "tuple[list[Target], Size]":
        from finetune.spec import rooted
        from finetune.targets import Market, compare, reckoned

        if file.recipe.provider not in ("auto", *self.catalogue.sheets):
            self._named(file.recipe.provider)
        file = rooted(file)
        size = self.submitter.size(file)
        market = Market(
            catalogue=self.catalogue,
            providers=self.providers,
            eligible=partial(self._eligible_or_aged, file.recipe.provider),
            cost_of=partial(reckoned, self.catalogue),
            time_of=self._time_of(self._looked_back(), file.recipe),
            servable=self._servable,
            here=self._set_up(),
            card_hour_usd=self.settings.card_hour_usd,
            memory_of=self.memory_of,
            files=self._reads,
        )
        return compare(file, size, market), size

    def _set_up(self) -> frozenset[str]:
        from importlib.metadata import entry_points

        from finetune.wiring.here import set_up

        return set_up(entry_points(group="ft.gateways"), self._gateway_kit)

    def _eligible_or_aged(self, asked: str, provider: str, recipe: "Recipe") -> "list[Problem]":
        """The same for a recipe that asked for this provider, and whether what is known was read long ago."""
        from finetune.catalogue.ages import aged

        sheet = self.catalogue.provider(provider)
        old = aged(sheet, sheet.model(recipe.base_model), self.clock.now().date()) if sheet else None
        recipe = recipe.model_copy(update={"provider": asked})
        return [*self._eligible(provider, recipe), *([old] if old else [])]

    def retarget(
        self,
        ref: str,
        to: str,
        gateways: "Sequence[str] | None",
        overrides: "Sequence[str]",
        at: Path | None = None,
    ) -> "tuple[RecipeFile, Retarget]":
        """The recipe of this version, or of the one with this alias, for another target, and what changes.

        `to` is `provider/base_model`, or a provider that has the same weights, or open weights that stand in for them.
        `at` is where its file will be; relative paths start there. Raises NotFound, NotEligible, RecipeError; DataError
        where the version's rows are gone.
        """
        from finetune.names import PRODUCTION
        from finetune.retarget import must_have_rows, overridden, retargeted
        from finetune.spec import parse

        model = self.registry.version(ref)
        job = self.jobs.get(model.job_id)
        provider, _, base_model = to.partition("/")
        honours = self._named(provider).honours
        base_model = base_model or self._instead(provider, model.base_model)
        _, _, said = ref.partition("@")
        wanted = said if said in model.aliases else PRODUCTION
        there = self.places.gateways(model.name, wanted) if gateways is None else tuple(gateways)
        hosts = [each for each in there if not self.places.hosts(each)]
        # Where nobody asks it is for the recipe alone to say whether that changes.
        asked = bool(there) or self.models.traffic(model.name, wanted) is not None
        alias = wanted if asked else None
        made = retargeted(job, provider, base_model, honours=honours, alias=alias, gateways=hosts or None)
        file = parse(_yaml(made.recipe), (at or Path(f"{model.name}-{provider}.yaml")).absolute(), overrides)
        must_have_rows(job, model.ref, file.recipe)
        return file, overridden(made, file.recipe)

    def _named(self, provider: str) -> "Provider":
        """The installed provider that a user has named. Raises NotFound."""
        self.offers.one(provider, ask=False)
        return self.providers[provider]

    def _instead(self, provider: str, base_model: str) -> str:
        from finetune.catalogue.weights import called, stand_in

        if found := called(self.catalogue, provider, base_model) or stand_in(self.catalogue, provider, base_model):
            return found
        # A stand-in trains what the vendor does not any more.
        ended = [] if provider in self.settings.sandbox else self.offers.one(provider, ask=False).notes
        if over := [each for each in ended if each.level == "error"]:
            raise NotEligible(*over)
        what = f"nothing says which model at {provider} can take the place of {base_model}"
        why = "the catalogue names neither the same weights there nor open weights that stand in for them"
        fix = f"name one: --to {provider}/BASE_MODEL; `ft providers {provider}` lists them"
        raise NotEligible(Problem(code="E306", what=what, why=why, fix=fix))

    def take_in(self, provider: str, export: Path | None, files: Path | None) -> "list[Imported]":
        """See `importing.Importer.take`: the jobs of an account, or of a file that has them.

        `files`: a folder with their training files, which are copied, and then not asked for. Raises NotFound,
        ProviderError, UsageError, DataError, StateError.
        """
        from finetune.abilities import Importable, Keyed
        from finetune.errors import AuthenticationFailed, UsageError
        from finetune.ids import login, new_job_id
        from finetune.importing import Files, Importer, exported, from_folder, listed
        from finetune.store.imported import SqlImports

        found = self._named(provider)
        if not isinstance(found, Importable):
            able = [name for name, each in sorted(self.providers.items()) if isinstance(each, Importable)]
            what = f"the jobs of {provider} cannot be imported"
            why = f"those of {', '.join(able)} can" if able else "those of no provider that is installed can"
            raise UsageError(Problem(code="E901", what=what, why=why, fix="name one of these"))
        if files is not None and not files.is_dir():
            what, why = f"{files} is no folder", "--files names one that has the training files, by their ids"
            raise UsageError(Problem(code="E901", what=what, why=why, fix="name it, or leave --files out"))
        rows = exported(export) if export else None
        missing = found.unconfigured() if isinstance(found, Keyed) else []
        if missing and rows is None:
            raise AuthenticationFailed(*missing)
        asks = found.fetch_file if not missing else lambda file_id, to: False
        kept = Files((self.settings.data_dir / "imported").absolute(), from_folder(files) if files else asks)
        books = SqlImports(self.database)
        taker = Importer(self.jobs, self.models, books, self.clock, owner=login(), new_id=new_job_id)
        return taker.take(provider, listed(found, rows), kept)

    def spendings(self) -> "list[Spending]":
        """See `spending.spendings`: of all jobs, newest first."""
        from finetune.spending import spendings
        from finetune.targets import by_tokens

        def price_of(job: "Job", tokens: int) -> "Cost":
            method = job.recipe.get("method", "sft")
            return by_tokens(self.catalogue, job.provider, method, job.base_model, (tokens, tokens), 1)

        return spendings(self.jobs.recent(), price_of, self._took)

    def written(self, file: "RecipeFile") -> str:
        """The recipe as a file."""
        from finetune.spec import canonical

        return _yaml(canonical(file.recipe))


def _yaml(recipe: dict[str, Any]) -> str:
    import yaml

    return str(yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True))
