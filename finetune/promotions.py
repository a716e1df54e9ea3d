"""A promotion before it begins: what the recipe wants of it, and what a user has said instead."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from finetune.errors import Problem, UsageError
from finetune.jobs import Json
from finetune.names import PRODUCTION, is_alias
from finetune.spec import Recipe
from finetune.versions import Promotion

#: Between the canary's share and all calls.
_HALF = 0.5


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Where a version shall go, and how. None: as the recipe says, or as it was done for the alias before."""

    alias: str = PRODUCTION
    gateways: tuple[str, ...] | None = None
    #: Share of the calls that it gets first.
    canary: float | None = None
    pause_s: float | None = None
    #: Whether the recipe's gate is asked.
    gate: bool = True
    #: What the gate compares it with: `base`, an alias or a version.
    over: str | None = None
    #: What an hour of hosting may cost: `3 USD`.
    max_hosting: str | None = None


def steps(canary: float | None) -> tuple[float, ...]:
    """The shares of a promotion: 0.1 becomes 0.1, 0.5, 1."""
    if canary is None or canary >= 1:
        return (1.0,)
    return (canary, _HALF, 1.0) if canary < _HALF else (canary, 1.0)


def gate_of(recipe: Recipe) -> Json | None:
    """The recipe's gate as a promotion carries it; None: it has none."""
    return recipe.gate.model_dump(mode="json") if recipe.gate else None


def begun(
    recipe: Recipe,
    wanted: Wanted,
    version: int,
    *,
    promotion_id: str,
    by: str,
    now: datetime,
    there: Sequence[str] = (),
) -> Promotion:
    """A promotion of that version, due now. `there` are the gateways where its alias is served already.

    Raises UsageError for an alias that cannot be, and for another comparison of a gate that is not asked.
    """
    if not is_alias(wanted.alias):
        raise UsageError(_bad_alias(wanted.alias))
    said = recipe.register
    mine = said if said and said.alias == wanted.alias else None
    canary = wanted.canary if wanted.canary is not None else mine.canary if mine else None
    pause_s = wanted.pause_s if wanted.pause_s is not None else mine.canary_pause_s if mine else 300.0
    gateways = wanted.gateways if wanted.gateways is not None else (mine.gateways if mine else ()) or tuple(there)
    return Promotion(
        id=promotion_id,
        name=recipe.name,
        version=version,
        alias=wanted.alias,
        gateways=tuple(dict.fromkeys(gateways)),
        steps=steps(canary),
        pause_s=float(pause_s),
        gate=_gate(recipe, wanted),
        max_hosting=wanted.max_hosting or (mine.max_hosting if mine else None),
        due_at=now,
        by=by,
        created_at=now,
    )


def _gate(recipe: Recipe, wanted: Wanted) -> Json | None:
    gate = gate_of(recipe) if wanted.gate else None
    if wanted.over is None:
        return gate
    if gate is None:
        why = f"the recipe of {recipe.name} has no gate" if wanted.gate else "--no-gate leaves the recipe's gate out"
        what = f"there is no gate that could compare with {wanted.over}"
        raise UsageError(Problem(code="E901", what=what, why=why, fix="leave out --over"))
    return {**gate, "over": wanted.over}


def _bad_alias(alias: str) -> Problem:
    """Why this can be no alias."""
    return Problem(
        code="E703",
        what=f"{alias!r} cannot be an alias",
        why="an alias is lower case letters, digits, `_`, `.` and `-`, and not a version such as v1",
        fix="for example `--to production`",
    )
