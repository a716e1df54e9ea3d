"""The parts that compare targets, plan a version's recipe again, and take in what was trained elsewhere."""

from collections.abc import Sequence
from decimal import Decimal
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune.errors import NotEligible, Problem
from finetune.wiring.exports import Exports

if TYPE_CHECKING:
    from finetune.catalogue import Cost
    from finetune.importing import Imported
    from finetune.jobs import Job
    from finetune.offers import Offers
    from finetune.ports import Provider
    from finetune.retarget import Retarget
    from finetune.spec import Recipe, RecipeFile
    from finetune.spending import Spending
    from finetune.targets import Target

#: Jobs that say how long trainings take here.
_LOOKED_BACK = 500


class Planning(Exports):
    """The parts, with those."""

    @cached_property
    def offers(self) -> "Offers":
        """What each provider offers."""
        from finetune.offers import Offers

        return Offers(self.providers, self.catalogue, self.clock.now().date())

    def targets(self, file: "RecipeFile") -> "list[Target]":
        """See `targets.compare`. Raises DataError, StateError; NotFound for a provider that nobody knows."""
        from finetune.submission import rooted
        from finetune.targets import Market, compare, pace, reckoned

        if file.recipe.provider not in ("auto", *self.catalogue.sheets):
            self._named(file.recipe.provider)
        market = Market(
            catalogue=self.catalogue,
            providers=self.providers,
            eligible=self._eligible_or_aged,
            cost_of=partial(reckoned, self.catalogue),
            time_of=pace(self.jobs.recent(limit=_LOOKED_BACK), self._took),
            servable=self._servable,
            card_hour_usd=Decimal(price) if (price := self.settings.gpu_hour_usd) else None,
        )
        return compare(rooted(file), self.submitter.size(file), market)

    def _took(self, job: "Job") -> float | None:
        """Seconds of a training; None: it was not ours. At a hosted provider with its own queue, here without."""
        from finetune.placement import from_row

        if job.run_key is None or job.finished_at is None or job.admitted_at is None:
            return None
        if run := self.runs.get_run(job.run_key):
            return run.card_s / (len(from_row(run.placed).devices) or 1)
        return (job.finished_at - job.admitted_at).total_seconds()

    def _eligible_or_aged(self, provider: str, recipe: "Recipe") -> "list[Problem]":
        """The same, and whether what is known of the target was read long ago."""
        from finetune.catalogue.ages import aged

        sheet = self.catalogue.provider(provider)
        old = aged(sheet, sheet.model(recipe.base_model), self.clock.now().date()) if sheet else None
        return [*self._eligible(provider, recipe), *([old] if old else [])]

    def retarget(
        self, ref: str, to: str, gateways: "Sequence[str] | None", overrides: "Sequence[str]"
    ) -> "tuple[RecipeFile, Retarget]":
        """The recipe of this version, or of the one with this alias, for another target, and what changes.

        `to` is `provider/base_model`, or a provider that has the same weights, or open weights that stand in for them.
        Raises NotFound, NotEligible, RecipeError.
        """
        from finetune.names import PRODUCTION
        from finetune.retarget import retargeted
        from finetune.spec import parse

        model = self.registry.version(ref)
        job = self.jobs.get(model.job_id)
        provider, _, base_model = to.partition("/")
        honours = self._named(provider).honours
        base_model = base_model or self._instead(provider, model.base_model)
        _, _, alias = ref.partition("@")
        alias = alias if alias and alias in model.aliases else PRODUCTION
        there = self.places.gateways(model.name, alias) if gateways is None else tuple(gateways)
        hosts = [each for each in there if not self.places.hosts(each)]
        made = retargeted(job, provider, base_model, honours=honours, alias=alias, gateways=hosts or None)
        text = _yaml(made.recipe)
        return parse(text, Path(f"{model.name}-{provider}.yaml").absolute(), overrides), made

    def _named(self, provider: str) -> "Provider":
        """The installed provider that a user has named. Raises NotFound."""
        self.offers.one(provider, ask=False)
        return self.providers[provider]

    def _instead(self, provider: str, base_model: str) -> str:
        from finetune.catalogue.weights import called, stand_in

        if found := called(self.catalogue, provider, base_model) or stand_in(self.catalogue, provider, base_model):
            return found
        what = f"nothing says which model at {provider} can take the place of {base_model}"
        why = "the catalogue names neither the same weights there nor open weights that stand in for them"
        fix = f"name one: --to {provider}/BASE_MODEL; `ft providers {provider}` lists them"
        raise NotEligible(Problem(code="E306", what=what, why=why, fix=fix))

    def take_in(self, provider: str, export: Path | None, files: Path | None) -> "list[Imported]":
        """See `importing.Importer.take`: the jobs of an account, or of a file that has them.

        `files`: a folder with their training files, which are then not asked for. Raises NotFound, ProviderError,
        UsageError.
        """
        from finetune.abilities import Importable, Keyed
        from finetune.errors import AuthenticationFailed, UsageError
        from finetune.ids import login, new_job_id
        from finetune.importing import Importer, exported

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
        folder = files or self.settings.data_dir / "imported"
        fetch = (lambda file_id, to: False) if missing or files else found.fetch_file
        taker = Importer(self.jobs, self.models, self.clock, folder=folder.absolute(), owner=login(), new_id=new_job_id)
        return taker.take(provider, found.past(rows), fetch)

    def spendings(self) -> "list[Spending]":
        """See `spending.spendings`: of all jobs, newest first."""
        from finetune.spending import spendings
        from finetune.targets import by_tokens

        def price_of(job: "Job", tokens: int) -> "Cost":
            method = job.recipe.get("method", "sft")
            return by_tokens(self.catalogue, job.provider, method, job.base_model, (tokens, tokens), 1)

        return spendings(self.jobs.recent(), price_of)

    def written(self, file: "RecipeFile") -> str:
        """The recipe as a file."""
        from finetune.spec import canonical

        return _yaml(canonical(file.recipe))


def _yaml(recipe: dict[str, Any]) -> str:
    import yaml

    return str(yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True))
