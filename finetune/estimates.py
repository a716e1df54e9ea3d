"""What a training is foreseen to take: how long, and how much memory of a card. Kept with its job, and held against
what it has taken.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from finetune.catalogue import Cost
from finetune.errors import Problem
from finetune.memory import Kind, Need, Shape, Unknown, Work, need
from finetune.placement import gigabytes, mebibytes
from finetune.spec import Recipe


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Each at least and at most; None: nothing is known to tell it by."""

    seconds: tuple[float, float] | None = None
    #: Bytes of each card.
    memory: tuple[int, int] | None = None
    #: Of own machines, where somebody has said what an hour of theirs costs.
    cost: Cost | None = None


def to_row(one: Estimate) -> dict[str, Any] | None:
    """Time and memory as JSON; None: neither was foreseen."""
    row: dict[str, Any] = {}
    if one.seconds is not None:
        row["seconds"] = {"low": round(one.seconds[0], 1), "high": round(one.seconds[1], 1)}
    if one.memory is not None:
        row["memory_bytes"] = {"low": one.memory[0], "high": one.memory[1]}
    return row or None


def from_row(row: Mapping[str, Any] | None) -> Estimate:
    """From JSON."""
    seconds, memory = ((row or {}).get(key) for key in ("seconds", "memory_bytes"))
    return Estimate(
        seconds=(seconds["low"], seconds["high"]) if seconds else None,
        memory=(memory["low"], memory["high"]) if memory else None,
    )


def work_of(recipe: Recipe, longest: int, *, cards: bool) -> Work:
    """What the local trainer does by this recipe; `longest` is the longest row's tokens before it is cut.

    `cards`: whether it trains on some, which decides the number format where the recipe does not.
    """
    lora, local, training = recipe.lora, recipe.local, recipe.training
    precision: Literal["fp32", "bf16"] = "bf16" if cards else "fp32"
    modules = lora.target_modules
    return Work(
        precision=precision if local.precision == "auto" else local.precision,
        rank=lora.r,
        modules=None if isinstance(modules, str) else tuple(modules),
        dropout=lora.dropout > 0,
        longest=min(longest, training.max_seq_length),
        rows=training.batch_size,
        at_once=None if local.micro_batch_size == "auto" else local.micro_batch_size,
        # The better and the worse answer to one prompt go together.
        sequences=2 if recipe.method == "dpo" else 1,
    )


def needs(shape: Shape, work: Work) -> dict[Kind, Need | str]:
    """Of each kind of training; where it is not known, why."""
    found: dict[Kind, Need | str] = {}
    for kind in Kind:
        try:
            found[kind] = need(shape, kind, work)
        except Unknown as why:
            found[kind] = str(why)
    return found


def tight(recipe: Recipe, wanted: Need, cards_mb: Iterable[int]) -> Problem | None:
    """That the memory asked for, or every card that is known, is less than the least that it needs; a warning.

    `cards_mb`: MiB of each card; none: it trains on a processor, or where nobody knows.
    """
    least_mb, asked = wanted.low >> 20, recipe.resources.memory
    fix = "lower training.max_seq_length or lora.r, or train a smaller base model"
    if asked is not None and mebibytes(asked) < least_mb:
        what = f"resources.memory is {asked}, and this training needs about {gigabytes(least_mb)} at least"
        fix = f"write memory: {gigabytes(wanted.high >> 20)}, or {fix}"
        return _warning("resources.memory", what, fix)
    largest = max(cards_mb, default=None)
    if largest is not None and largest < least_mb and recipe.resources.gpus != 0:
        what = f"the largest card here has {gigabytes(largest)}, and this training needs about {gigabytes(least_mb)}"
        return _warning("base_model", what, fix)
    return None


def _warning(field: str, what: str, fix: str) -> Problem:
    why = "weights, adapter, optimizer, and one row on its way through the model are held at once"
    return Problem(code="E321", what=what, why=why, fix=fix, field=field, level="warning")
