"""What a user can ask of tuned models: promote, roll back, look at what was measured, compare, where one comes from."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime
from typing import Any

from finetune import hosting
from finetune.errors import NotFound, Problem, UsageError, WaitTimeout
from finetune.jobs import Job, Json
from finetune.names import PRODUCTION, beside
from finetune.placing import Places
from finetune.ports import Clock
from finetune.promotions import Wanted, begun
from finetune.releases import ModelStore, PromotionStore
from finetune.spec import Recipe
from finetune.versions import ModelVersion, Promotion, PromotionState, Traffic, way_back

#: Seconds between two looks of `wait`.
_LOOK_S = 0.2
#: Where a version is, and since when its files are not.
_OF_AN_ARTIFACT = ("path", "digest", "uri", "gone", "model")


class Releasing:
    """Begins promotions and answers questions about versions."""

    def __init__(
        self,
        models: ModelStore,
        promotions: PromotionStore,
        places: Places,
        clock: Clock,
        *,
        version: Callable[[str], ModelVersion],
        job: Callable[[str], Job],
        new_id: Callable[[], str],
    ) -> None:
        """`version` finds one by its name (NotFound), `job` the job that made it."""
        self._models, self._promotions, self._places, self._clock = models, promotions, places, clock
        self._version, self._job, self._new_id = version, job, new_id

    def promote(self, ref: str, wanted: Wanted, *, by: str) -> Promotion:
        """Begin to move the alias to this version; `promoter.Promoter` does the rest. An unfinished one is superseded.

        Raises NotFound, UsageError, GatewayError E836, and E843 for a running cost that nobody has agreed to.
        """
        model = self._version(ref)
        recipe = Recipe.model_validate(self._job(model.job_id).recipe)
        there = self._places.gateways(model.name, wanted.alias)
        now = self._clock.now()
        promotion = begun(recipe, wanted, model.version, promotion_id=self._new_id(), by=by, now=now, there=there)
        for name in promotion.gateways:
            # One that is not there is the command's fault, and should mark no version.
            self._places.gateway(name)
        if wanted.over not in (None, "base"):
            self._version(beside(model.name, wanted.over))
        hosting.agreed(self._places, model, promotion)
        return self._promotions.begin(promotion)

    def wait(self, ref: str, goal: str, *, until: datetime | None, each: Callable[[], object]) -> Promotion | None:
        """Block until the newest promotion of this version is in the state `goal`, or has ended; None: there is none.

        `each` is called at every look that does not end it. Raises WaitTimeout once it is `until`.
        """
        while True:
            mine = self.promotions(ref)
            if not mine or mine[0].final or mine[0].state == goal:
                return mine[0] if mine else None
            if until is not None and self._clock.now() >= until:
                raise WaitTimeout(_too_long(mine[0]))
            each()
            self._clock.sleep(_LOOK_S)

    def promotions(self, ref: str) -> list[Promotion]:
        """Those of this version, newest first. Raises NotFound."""
        model = self._version(ref)
        return self._promotions.recent(model.name, version=model.version)

    def back(self, name: str, alias: str = PRODUCTION) -> Traffic:
        """The traffic that a roll back of this alias restores: the last before the present one that had settled.

        A canary goes back to the version beside it; of two roll backs the second undoes the first. What a promotion had
        moved and was taken back is none of them. Raises NotFound.
        """
        moves = self._models.moves(name, alias)
        if found := way_back(moves):
            return found
        raise NotFound(
            Problem(
                code="E835",
                what=f"there is nothing to roll {name}@{alias} back to",
                why="its calls have never gone to another version" if moves else "nobody has ever had its calls",
                fix=f"`ft models list` shows the versions of {name}, `ft promote` moves the alias",
            )
        )

    def roll_back(self, name: str, alias: str = PRODUCTION, *, by: str) -> Promotion:
        """Begin to give the alias back to the version of `back`. At gateways it is registered if it is not there.

        There is no gate and no proof in between: it was proved when it was promoted, and it is wanted now.
        """
        version = self.back(name, alias).version
        assert version is not None
        now = self._clock.now()
        return self._promotions.begin(
            Promotion(
                id=self._new_id(),
                name=name,
                version=version,
                alias=alias,
                # One that was removed since must not keep the others from it.
                gateways=self._places.usable(self._places.gateways(name, alias)),
                rollback=True,
                state=PromotionState.SHIFTING,
                notes=({"at": now.isoformat(), "text": f"rolling back to {name}@v{version}"},),
                due_at=now,
                by=by,
                created_at=now,
            )
        )

    def retire(self, ref: str, *, by: str) -> list[str]:
        """Have nobody call this version and no gateway hold it; what it costs by the hour ends. Idempotent.

        Returns in sentences what could not be forgotten; `sync` goes on with it. Raises NotFound, and UsageError while
        a promotion of its name is under way.
        """
        model = self._version(ref)
        if any(not one.final for one in self._promotions.recent(model.name)):
            raise UsageError(_under_way(model))
        for traffic in self._models.all_traffic():
            if traffic.name == model.name and traffic.shares.get(model.version):
                now = self._clock.now()
                off = replace(traffic, shares={}, reason=f"retire v{model.version}", by=by, at=now, seq=None)
                self._models.shift(off)
        mine = [each for each in self._promotions.placed() if _is(each, model)]
        return self._places.forget(mine)

    def undo(self, promotion: Promotion) -> str | None:
        """The command that takes an ended promotion back; None: there is nothing to take back."""
        if promotion.state is not PromotionState.LIVE:
            return None
        try:
            self.back(promotion.name, promotion.alias)
        except NotFound:
            # There is no way back, but what it costs can be ended.
            return f"ft models retire {promotion.ref}" if promotion.max_hosting else None
        return f"ft rollback {promotion.name}" + (
            "" if promotion.alias == PRODUCTION else f" --alias {promotion.alias}"
        )

    def card(self, model: ModelVersion) -> Json:
        """All that is known of a version: what was measured, who calls it, its promotions."""
        mine = self.promotions(model.ref)
        traffic = [one for one in self._models.all_traffic() if one.name == model.name and model.version in one.shares]
        return {
            "reports": self._models.reports(model.name, model.version),
            "traffic": [{"alias": one.alias, "share": one.shares[model.version], "since": one.at} for one in traffic],
            "promotions": mine,
            "gateways": sorted({one.gateway for one in self._promotions.placed() if _is(one, model)}),
        }

    def headlines(self, models: Iterable[ModelVersion]) -> dict[str, str]:
        """What a list says of each version's measurements: `exact_match 0.62 (+0.21)`; nothing of the others."""
        found = {}
        for model in models:
            outcomes = [
                each for report in self._models.reports(model.name, model.version) for each in _outcomes(report)
            ]
            if outcomes:
                first = outcomes[0]
                found[model.ref] = f"{first['metric']} {first['tuned']['value']:.2f} ({first['gain']['value']:+.2f})"
        return found

    def lineage(self, model: ModelVersion) -> Json:
        """What it was made from, as far as we know: recipe, data, base, job, cost, code."""
        job = self._job(model.job_id)
        return {
            "model": model.ref,
            "job": job.id,
            "target": job.target,
            "submitted_by": job.owner,
            "trained_at": job.finished_at,
            "recipe": job.recipe,
            "data": {key: job.data.get(key) for key in ("digest", "train_rows", "validation_rows", "train")},
            "base_model": model.base_model,
            "artifact": {key: model.artifact[key] for key in _OF_AN_ARTIFACT if key in model.artifact},
            "cost": job.cost,
            "made_with": {key: value for key, value in model.lineage.items() if key not in ("recipe", "data")},
            "fingerprint": model.lineage.get("recipe"),
        }

    def diff(self, one: ModelVersion, other: ModelVersion) -> list[tuple[str, Any, Any]]:
        """What differs between two versions, by dotted field: recipe, data, code, and what was measured."""
        sides = [_flat({**self._facts(each), **self._figures(each)}) for each in (one, other)]
        fields: Iterable[str] = dict.fromkeys([*sides[0], *sides[1]])
        return [
            (field, sides[0].get(field), sides[1].get(field))
            for field in fields
            if sides[0].get(field) != sides[1].get(field)
        ]

    def _facts(self, model: ModelVersion) -> Json:
        known = self.lineage(model)
        left_out = ("model", "job", "trained_at", "fingerprint")
        return {key: value for key, value in known.items() if key not in left_out}

    def _figures(self, model: ModelVersion) -> Json:
        return {
            f"{report['suite']}.{outcome['metric']}": outcome["tuned"]["value"]
            for report in self._models.reports(model.name, model.version)
            for outcome in _outcomes(report)
        }


def _under_way(model: ModelVersion) -> Problem:
    return Problem(
        code="E901",
        what=f"{model.ref} cannot retire while a promotion of {model.name} is under way",
        why="it may be about to get calls, or to give them back to this one",
        fix=f"`ft rollback {model.name}` ends that, or wait: `ft models show {model.ref}`",
    )


def _too_long(promotion: Promotion) -> Problem:
    return Problem(
        code="E810",
        what=f"the time is over, and {promotion.ref} is not there yet: {promotion.state}",
        why=promotion.notes[-1]["text"] if promotion.notes else "no worker has taken the promotion up",
        fix=f"wait longer, or see `ft models show {promotion.ref}`",
    )


def _outcomes(report: Json) -> list[Json]:
    found: list[Json] = report.get("outcomes", [])
    return found


def _is(placed: Any, model: ModelVersion) -> bool:
    return (placed.name, placed.version) == (model.name, model.version)


def _flat(value: Json, prefix: str = "") -> Json:
    found: Json = {}
    for key, each in value.items():
        if isinstance(each, dict):
            found |= _flat(each, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = each
    return found
