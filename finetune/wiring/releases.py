"""The parts that take a trained version to the name that callers use: gateways, proofs, measurements, promotions."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune.errors import FtError, GatewayError, GatewayUnavailable, NotFound, Problem, StateError
from finetune.names import public_name
from finetune.wiring.hosting import Hostings

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from datetime import datetime

    from finetune.bench import Verdict
    from finetune.deployments import Deployment, Gateway, GatewayKit, Template, TemplateOf, Upstream
    from finetune.evaluation.local import Parts as EvaluationParts
    from finetune.jobs import Due, Json
    from finetune.measuring import Measurer
    from finetune.placing import Places, Sync
    from finetune.promoter import Promoter
    from finetune.releasing import Releasing
    from finetune.spec import Recipe
    from finetune.sweep import Sweep
    from finetune.versions import Grip, ModelVersion


#: Seconds between two looks at what gateways have.
_ROUND_S = 60


class Releases(Hostings):
    """The parts, with those that promote, and the sweep that rings for all of them."""

    #: The minute of the last look at gateways, and whether it was for this worker.
    _round, _on_duty = -1, False

    @cached_property
    def gateway_names(self) -> list[str]:
        """All that are installed, whether they can be used here or not."""
        from importlib.metadata import entry_points

        return sorted(entry.name for entry in entry_points(group="ft.gateways"))

    def gateway(self, name: str) -> "Gateway":
        """The gateway of this name, built once. Raises GatewayError E836."""
        if name not in self._gateways:
            self._gateways[name] = (name not in self.gateway_names and self._host(name)) or self._built(name)
        return self._gateways[name]

    @cached_property
    def _gateways(self) -> "dict[str, Gateway]":
        return {}

    def _built(self, name: str) -> "Gateway":
        from importlib.metadata import entry_points

        for entry in entry_points(group="ft.gateways", name=name):
            try:
                made: Gateway = entry.load()(self._gateway_kit)
            except FtError as error:
                problem = error.problems[0]
                raise GatewayError(replace(problem, code="E836", what=f"{name}: {problem.what}")) from error
            except Exception as error:
                why = f"{type(error).__name__}: {error}"
                raise GatewayError(Problem(code="E836", what=f"the gateway {name} cannot be used", why=why)) from error
            return made
        raise GatewayError(
            Problem(
                code="E836",
                what=f"there is no gateway {name!r}",
                why=f"installed are {', '.join(self.gateway_names) or 'none'}",
                fix="write one of these in `register.gateways`, or install the package that brings it",
            )
        )

    @cached_property
    def _gateway_kit(self) -> "GatewayKit":
        from finetune.deployments import GatewayKit

        return GatewayKit(environ=os.environ, clock=self.clock, port=self.settings.port, api_key=self.settings.api_key)

    @cached_property
    def places(self) -> "Places":
        """What gateways have of our versions."""
        from finetune.placing import Places

        return Places(self.models, self.promotions, self.gateway, self._described, self.clock, host=self._host_of)

    @cached_property
    def sync(self) -> "Sync":
        """What compares it with our books."""
        from finetune.placing import Sync

        return Sync(self.models, self.promotions, self.places, self.clock)

    @cached_property
    def releasing(self) -> "Releasing":
        """What users ask of versions."""
        from finetune.ids import new_promotion_id
        from finetune.releasing import Releasing

        return Releasing(
            self.models,
            self.promotions,
            self.places,
            self.clock,
            version=self.registry.version,
            job=self.jobs.get,
            new_id=new_promotion_id,
        )

    @cached_property
    def measurer(self) -> "Measurer":
        """What measures versions, in a process of its own."""
        from finetune.measuring import Measurer, Rooms, Subjects
        from finetune.seats import seated

        rooms = Rooms(
            folder=self.settings.home / "evaluations",
            cache=self.settings.cache_dir,
            logs=self.settings.logs_dir,
            suites=Path("suites").absolute(),
            command=_evaluation,
        )
        return Measurer(
            self.models,
            self.clock,
            job=self.jobs.get,
            version=self.registry.version,
            subjects=Subjects(version=self._subject, base=self._base),
            card=lambda ref, resources: seated(self.placements, self.clock, ref, resources),
            places=rooms,
        )

    def promoter(self, say: Callable[[str], None], measuring: Callable[[str], None]) -> "Promoter":
        """What moves promotions. `say` hears each note of one, `measuring` what an evaluation does."""
        from finetune.bench import Bench
        from finetune.measuring import Wish
        from finetune.promoter import Promoter, Ways

        def measure(model: "ModelVersion", gate: "Json | None") -> "list[Json]":
            return self.measurer.measure(model, Wish.of_gate(gate), measuring)

        def foresee(model: "ModelVersion", gate: "Json | None") -> None:
            self.measurer.foresee(model, Wish.of_gate(gate))

        return Promoter(
            self.models,
            self.promotions,
            self.places,
            self.clock,
            bench=Bench(measure=measure, decide=decided, foresee=foresee),
            ways=Ways(owner=self.worker, hold=self._gripped, say=say),
        )

    def _servable(self, recipe: "Recipe") -> list[Problem]:
        from finetune.abilities import Keyed
        from finetune.deployments import Foresees, Shape
        from finetune.wiring.gates import measurable

        recipe = self._aimed(recipe)
        here = recipe.provider in self.providers and not isinstance(self.providers[recipe.provider], Keyed)
        found = measurable(recipe, here=here, version=self.registry.version)
        nowhere = self._unreached(recipe)
        found += [nowhere] if nowhere else self._hostable(recipe)
        shape = Shape(
            base_model=recipe.base_model,
            rank=recipe.lora.r,
            target_modules=recipe.lora.target_modules,
            template=None if _accepts_template(recipe.allow_ignored) else self._template_of(recipe.base_model),
        )
        for name in recipe.register.gateways if recipe.register else ():
            try:
                gateway = self.gateway(name)
                problems = gateway.foresee(shape) if isinstance(gateway, Foresees) else []
            except GatewayError as error:
                problems = list(error.problems)
            found += [replace(problem, field="register.gateways") for problem in problems]
        return found

    def _unreached(self, recipe: "Recipe") -> Problem | None:
        """That every gateway of the recipe answers with weights of its own only, and the provider keeps these."""
        from finetune.abilities import Keyed

        provider, gateways = recipe.provider, recipe.register.gateways if recipe.register else ()
        if not gateways or not isinstance(self.providers.get(provider), Keyed):
            return None
        places = self.places
        if any(places.why_not(name) or places.passes_on(name) for name in gateways):
            return None
        return Problem(
            code="E837",
            what=f"{', '.join(gateways)} cannot answer with what {provider} trains",
            why="the weights stay there, and a gateway that loads weights has none to load",
            fix="add one that passes calls on: register: {gateways: [litellm]}; or train with `provider: local`",
            field="register.gateways",
        )

    def _template_of(self, base_model: str, digest: str | None = None) -> "TemplateOf":
        """What a training of this base writes conversations with; `digest` is the template's, where it is known."""
        from functools import cache

        @cache
        def looked() -> "Template":
            from finetune.training.talks import template_of

            return template_of(base_model, cache=self.settings.cache_dir, digest=digest)

        return looked

    def _trained_with(self, model: "ModelVersion") -> "TemplateOf | None":
        """The version's template; None where its recipe says that a gateway may have another."""
        try:
            accepted = _accepts_template(self.jobs.get(model.job_id).recipe.get("allow_ignored") or ())
        except NotFound:
            accepted = False
        digest = model.lineage.get("chat_template_digest")
        return None if accepted else self._template_of(model.base_model, str(digest) if digest else None)

    def sweep(self, ring: Callable[[str, str], None], tasks: frozenset[str]) -> "Sweep":
        """A sweep that rings for these tasks."""
        from finetune.sweep import Sweep
        from finetune.tasks import ADVANCE, MEASURE, PROMOTE, SYNC, TRAIN

        admit = partial(self.turns.admit, caps=self.settings.limits)
        sources: dict[str, Callable[[datetime, int], Sequence[Due]]] = {
            ADVANCE: self.jobs.due,
            # The driver is asked for its cards where something trains, not in every worker.
            TRAIN: lambda now, limit: self.placements.due_runs(now, limit),
            MEASURE: partial(self.promotions.due, measuring=True),
            PROMOTE: partial(self.promotions.due, measuring=False),
            SYNC: self._rounds,
        }
        mine = {task: source for task, source in sources.items() if task in tasks}
        return Sweep(mine, self.clock, ring, admit=admit if ADVANCE in tasks else None)

    def _rounds(self, now: "datetime", limit: int) -> "list[Due]":
        """One look at all gateways a minute, by one worker, while they have anything of ours."""
        from finetune.jobs import Due
        from finetune.tasks import QUEUE_OF, SYNC
        from finetune.up import alive

        minute = int(now.timestamp() // _ROUND_S)
        if minute != self._round:
            self._round = minute
            able = [beat.worker for beat in alive(self.beats, self.clock) if QUEUE_OF[SYNC] in beat.queues]
            self._on_duty = min(able, default=self.worker) == self.worker and bool(self.promotions.placed())
        return [Due("gateways", minute)] if self._on_duty else []

    def _gripped(self, grip: "Grip") -> "AbstractContextManager[None]":
        from finetune.leases import held
        from finetune.promoter import LEASE

        renew = partial(self.promotions.renew, grip)
        return held(lambda: renew(self.clock.now() + LEASE), LEASE.total_seconds() / 3)

    def _described(self, model: "ModelVersion", alias: str) -> "Deployment":
        """The version as gateways are told of it. Looks at the adapter's digest. Raises GatewayError."""
        from finetune.deployments import Deployment

        public = public_name(model.name, alias)
        named = Deployment(ref=model.ref, public=public, digest=_named(model), base_model=model.base_model)
        if "path" in model.artifact:
            return replace(named, adapter=self._folder(model), template=self._trained_with(model))
        if self._host_of(model):
            return replace(named, artifact=model.artifact)
        return replace(named, upstream=self._upstream(model))

    def _folder(self, model: "ModelVersion") -> Path:
        """The version's adapter here, fetched if need be, its digest found right. Raises GatewayError."""
        try:
            folder = self.adapters.here(model.artifact)
        except StateError as error:
            raise (GatewayUnavailable if error.retry else GatewayError)(*error.problems) from error
        _check(model.ref, folder, _named(model))
        return folder

    def _upstream(self, model: "ModelVersion") -> "Upstream":
        from finetune.abilities import Answering

        if self._host_of(model):
            return self._deployed(model)
        provider = self.provider(model.provider)
        if isinstance(provider, Answering) and isinstance(model.artifact.get("model"), str):
            try:
                return provider.answers_at(model.artifact)
            except FtError as error:
                raise GatewayError(*error.problems) from error
        raise GatewayError(
            Problem(
                code="E837",
                what=f"{model.ref} does not answer at {model.provider} by a name of its own",
                why="the provider wants it deployed first, and bills that by the hour",
                fix="deploy it in the provider's console, and put its address into the gateway yourself",
            )
        )

    def _subject(self, model: "ModelVersion") -> "Json":
        from finetune.measuring import asked

        if "path" in model.artifact:
            return {"kind": "adapter", "name": model.ref, "path": str(self._folder(model))}
        return asked(self._upstream(model), model.ref, model)

    def _base(self, model: "ModelVersion", sure: bool) -> "Json":
        """How the base of a hosted version is asked. See `Measurer`."""
        if there := self._base_of(model, sure):
            return there
        # Where the tuned one answers by itself, its base does too, by its own name.
        return {**self._subject(model), "name": model.base_model, "model": model.base_model}


def evaluation_parts(cache: Path) -> "EvaluationParts":
    """What an evaluation process is joined from (`python -m finetune.evaluation --parts`). Imports torch."""
    from finetune.process import importing

    with importing():
        from finetune.evaluation.local import Encoded
        from finetune.evaluation.local import Parts as EvaluationParts
        from finetune.serving.engine import Engine
        from finetune.training import bases
        from finetune.training.examples import IGNORED, ChatEncoder
        from finetune.training.template import UnplacedRow

    def load(base_model: str, report: Callable[[str], None]) -> Any:
        return bases.load(base_model, cache=cache, report=report)

    def encoder(tokenizer: Any) -> Callable[[Mapping[str, Any]], Encoded]:
        chats = ChatEncoder(tokenizer)

        def encode(row: Mapping[str, Any]) -> Encoded:
            try:
                made = chats.encode(row)
            except UnplacedRow as error:
                raise ValueError(str(error)) from error
            return Encoded(made.ids, made.labels != IGNORED)

        return encode

    return EvaluationParts(load=load, engine=Engine, encoder=encoder)


def _accepts_template(allow_ignored: Sequence[str]) -> bool:
    """Whether a gateway may ask the model in another form than it has learned (E841)."""
    return "register.gateways" in allow_ignored


def _evaluation(folder: Path, report: Path) -> Sequence[str]:
    from finetune.up import PYTHON

    command = [*PYTHON, "-m", "finetune.evaluation", str(folder), "--parent", str(os.getpid())]
    return [*command, "--report", str(report), "--parts", "finetune.wiring.releases:evaluation_parts"]


def decided(gate: "Json", reports: "Sequence[Json]") -> "Verdict":
    """What the recipe's gate says to these reports."""
    from finetune.evaluation.gates import decide
    from finetune.evaluation.report import Report
    from finetune.spec.model import Gate

    plain = [{key: value for key, value in each.items() if key not in ("at", "over")} for each in reports]
    return decide(Gate.model_validate(gate), [Report.from_json(each) for each in plain])


def _check(ref: str, folder: Path, digest: str) -> None:
    """Raise GatewayError E838 unless the adapter's files are those that were registered."""
    from finetune.files import changed

    if why := changed(folder, digest):
        raise GatewayError(
            Problem(
                code="E838",
                what=f"the adapter of {ref} in {folder} is not what was registered",
                why=why,
                fix="restore the folder, or train again with `ft submit RECIPE --force`",
            )
        )


def _named(model: "ModelVersion") -> str:
    """The digest of what answers. A hosted model's name is never used again there, so it stands for the content."""
    import hashlib

    if digest := model.artifact.get("digest"):
        return str(digest)
    return hashlib.sha256(f"{model.provider}/{model.artifact.get('model')}".encode()).hexdigest()
