"""What a training is foreseen to take: how long, and how much memory of a card. Kept with its job, and held against
what it has taken.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from finetune.catalogue import Cost
from finetune.errors import Problem
from finetune.memory import Kind, Need, Shape, Unknown, Work, need
from finetune.memory.speed import SHARE, Fleet, Load, recomputes, seconds
from finetune.placement import Device, gigabytes, mebibytes
from finetune.spec import Recipe

#: What tells how long a training takes: `trainings` of its model that have ended here, or the published speed of a
#: `card`. The first goes before the second.
ToldBy = Literal["trainings", "card"]
#: What is told of the time that recomputing takes, by `recomputes`.
_AGAIN: Final = {
    (False, False): "",
    (False, True): ", at most with activations made again, as a long row may not fit otherwise",
    (True, True): ", with activations made again, which takes about half as long again",
}
_WILL_TELL: Final = "a first training on few rows (`ft data split`) will tell"


@dataclass(frozen=True, kw_only=True)
class Time:
    """How long a training takes."""

    #: At least and at most; None: not known.
    seconds: tuple[float, float] | None = None
    #: None: not known.
    by: ToldBy | None = None
    #: What it is told by, for people; where it is not known, why, and what helps.
    basis: str


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Each at least and at most; None: nothing is known to tell it by."""

    seconds: tuple[float, float] | None = None
    #: None: not known, or kept by an older ft.
    seconds_by: ToldBy | None = None
    #: Bytes of each card.
    memory: tuple[int, int] | None = None
    #: Of own machines, where somebody has said what an hour of theirs costs.
    cost: Cost | None = None


def to_row(one: Estimate) -> dict[str, Any] | None:
    """Time and memory as JSON; None: neither was foreseen."""
    row: dict[str, Any] = {}
    if one.seconds is not None:
        row["seconds"] = {"low": round(one.seconds[0], 1), "high": round(one.seconds[1], 1), "by": one.seconds_by}
    if one.memory is not None:
        row["memory_bytes"] = {"low": one.memory[0], "high": one.memory[1]}
    return row or None


def from_row(row: Mapping[str, Any] | None) -> Estimate:
    """From JSON."""
    time, memory = ((row or {}).get(key) for key in ("seconds", "memory_bytes"))
    return Estimate(
        seconds=(time["low"], time["high"]) if time else None,
        seconds_by=time.get("by") if time else None,
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
        recompute=None if local.gradient_checkpointing == "auto" else local.gradient_checkpointing,
    )


@dataclass(frozen=True, kw_only=True)
class Rows:
    """What is trained on, and measured by."""

    train: int
    held_back: int
    #: Tokens of the training rows, at least and at most, and of the longest, at most; minutes where there are many.
    tokens: Callable[[], tuple[int, int]]
    longest: Callable[[], int]


def by_card(
    recipe: Recipe,
    layers: Callable[[], Shape],
    cards: Iterable[Device],
    tflops_of: Callable[[str], float | None],
    rows: Rows,
) -> Time:
    """How long it takes on these cards, those of this installation, by their published speed; no row is read in vain.

    `layers` are the base model's, or raise Unknown. `tflops_of`: see `catalogue.cards.Cards.tflops`.
    """
    found = _fleet(recipe, list(cards), tflops_of)
    if isinstance(found, str):
        return Time(basis=f"{found}; {_WILL_TELL}")
    try:
        shape = layers()
    except Unknown as why:
        return Time(basis=f"its layers are not known: {why}")
    if any(layer.experts for layer, _ in shape.layers):
        return Time(basis=f"what share of a card's speed models with experts reach is not published; {_WILL_TELL}")
    fleet, names = found
    longest = rows.longest()
    work = work_of(recipe, min(longest, shape.context or longest), cards=True)
    epochs, reference = recipe.training.epochs, recipe.method == "dpo"
    load = Load(rows=rows.train, held_back=rows.held_back, epochs=epochs, tokens=rows.tokens(), reference=reference)
    share = " to ".join(f"{each:.0%}" for each in SHARE)
    again = _AGAIN[recomputes(shape, work, load, fleet)]
    basis = (
        f"by the published speed of {names}, of which trainings reach {share}{again}; what ends here will tell better"
    )
    return Time(seconds=seconds(shape, work, load, fleet), by="card", basis=basis)


def _fleet(
    recipe: Recipe, cards: Sequence[Device], tflops_of: Callable[[str], float | None]
) -> tuple[Fleet, str] | str:
    """The cards that may take it, and their names; or why that says nothing of the time."""
    asked = recipe.resources
    if asked.gpus == 0 or (asked.gpus is None and not cards):
        return "the speed of processors is not published"
    if recipe.local.precision == "fp32":
        return "published speeds are those of bf16"
    able = [each for each in cards if asked.memory is None or each.memory_mb >= mebibytes(asked.memory)]
    if not able:
        return "no such card is known here"
    speeds = {each.name: tflops_of(each.name) for each in able}
    unknown = [name for name, speed in speeds.items() if speed is None]
    if unknown:
        return f"the speed of {unknown[0]} in bf16 is not in the catalogue"
    known = [each for each in speeds.values() if each is not None]
    sizes = [each.memory_mb << 20 for each in able]
    fleet = Fleet(count=asked.gpus or 1, tflops=(min(known), max(known)), memory=(min(sizes), max(sizes)))
    return fleet, " or ".join(speeds)


def needs(shape: Shape, work: Work) -> dict[Kind, Need | str]:
    """Of each kind of training; where it is not known, why."""
    found: dict[Kind, Need | str] = {}
    for kind in Kind:
        try:
            found[kind] = need(shape, kind, work)
        except Unknown as why:
            found[kind] = str(why)
    return found


def weights_alone(recipe: Recipe, parameters: int, *, cards: bool) -> Need:
    """The least that a base of so many parameters needs, where its layers are not known: its weights."""
    wide = 4 if work_of(recipe, 1, cards=cards).precision == "fp32" else 2
    return Need(kind=Kind.LORA, weights=wide * parameters, trained=0, least=0, most=0)


def tight(recipe: Recipe, wanted: Need, cards_mb: Iterable[int], own_mb: int | None = None) -> Problem | None:
    """That the memory asked for, every card that is known, or this machine has less than it needs; a warning.

    `cards_mb`: MiB of each card; none: it trains on a processor, or where nobody knows. `own_mb`: MiB of this machine
    if its processor will train it; None: another machine may.
    """
    least_mb, asked = wanted.low >> 20, recipe.resources.memory
    fix = "lower training.max_seq_length or lora.r, or train a smaller base model"
    if recipe.local.gradient_checkpointing is False:
        fix = f"write local: {{gradient_checkpointing: auto}}, {fix}"
    if asked is not None and mebibytes(asked) < least_mb:
        what = f"resources.memory is {asked}, and this training needs about {gigabytes(least_mb)} at least"
        fix = f"write memory: {gigabytes(wanted.high >> 20)}, or {fix}"
        return _warning("resources.memory", what, fix)
    largest = max(cards_mb, default=None)
    if largest is not None and largest < least_mb and recipe.resources.gpus != 0:
        what = f"the largest card here has {gigabytes(largest)}, and this training needs about {gigabytes(least_mb)}"
        return _warning("base_model", what, fix)
    if own_mb is not None and own_mb < least_mb:
        what = f"this machine has {gigabytes(own_mb)} of memory, and on its processor this training needs about "
        half = "" if recipe.local.precision == "bf16" else "write local: {precision: bf16}, "
        return _warning("base_model", f"{what}{gigabytes(least_mb)} at least", f"{half}train it on a card, or {fix}")
    return None


def _warning(field: str, what: str, fix: str) -> Problem:
    why = "weights, adapter, optimizer, and one row on its way through the model are held at once"
    return Problem(code="E321", what=what, why=why, fix=fix, field=field, level="warning")
