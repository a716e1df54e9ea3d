"""estimate, costs: what a training will take, and how well that was foreseen."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from finetune.cli.output import flow, labelled, out, out_json, say, table, tell
from finetune.cli.plans import bytes_text, cost_text, exit_code, span_text, time_text
from finetune.cli.reading import Reading
from finetune.cli.recipes import AsJson, Overrides
from finetune.wiring import Desk

if TYPE_CHECKING:
    from finetune.memory import Kind, Need
    from finetune.targets import Target
    from finetune.wiring.foresight import Foreseen

#: GB of the cards that are sold.
_SIZES = (8, 12, 16, 24, 32, 40, 48, 80, 96, 141, 180, 288)
_GB = 10**9
_MIB = 2**20


def estimate(
    recipe: Annotated[Path, typer.Argument(help="A recipe file.", show_default=False)],
    overrides: Overrides = None,
    fetch: Annotated[
        bool, typer.Option("--fetch", help="Read the config.json of a base model that is not here from the model hub.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Reckon what a recipe takes at its target: tokens, cost, time, and memory for LoRA, QLoRA and full training.

    Memory is reckoned from the base model's config.json. Nothing is sent and nothing is queued. Exit codes as of plan.

    Examples: ft estimate recipe.yaml · ft estimate recipe.yaml --set base_model=Qwen/Qwen3-8B --fetch
    """
    with Reading() as reading:
        desk = Desk(say=say, reading=reading.show)
        file = desk.read(recipe, overrides or [])
        found = desk.estimate(file, fetch=fetch)
    for note in file.notes:
        tell(note)
    if as_json:
        out_json(desk.views.foreseen(found))
    else:
        _draw(found, file.recipe.training.epochs)
    if code := exit_code([found.target]):
        raise typer.Exit(code)


def costs(as_json: AsJson = False) -> None:
    """Compare what trainings were foreseen to cost and take with what they have, by provider.

    Costs are counted by the provider or this machine; else the tokens that it has trained on, at the published price.

    Examples: ft costs · ft costs --json
    """
    from finetune.spending import tallies

    desk = Desk(say=say)
    found = desk.spendings()
    if as_json:
        out_json([desk.views.spending(each) for each in found])
        return
    head = ("PROVIDER", "JOBS", "COMPARED", "ESTIMATED USD", "ACTUAL USD", "WITHIN", "ERROR", "OF TIME", "OF MEMORY")
    rows = [
        (
            each.provider,
            str(each.jobs),
            str(each.compared),
            f"{each.estimated_low}-{each.estimated_high}" if each.compared else "-",
            f"{each.actual:.2f}" if each.compared else "-",
            f"{each.within} of {each.compared}" if each.compared else "-",
            *(_percent(error) for error in (each.mean_error, each.mean_time_error, each.mean_memory_error)),
        )
        for each in tallies(found)
    ]
    if rows:
        table(head, rows, under=("OF MEMORY", "OF TIME", "COMPARED", "JOBS"))
    else:
        say("no job has ended well yet: there is nothing to compare")


def _percent(error: float | None) -> str:
    return "-" if error is None else f"{error:.0%}"


def _draw(found: "Foreseen", epochs: int) -> None:
    target, size = found.target, found.size
    low, high = found.tokens
    tokens = f"{low:,}" if low == high else f"{low:,} to {high:,}"
    steps = f"{found.steps:,} steps" if found.steps else "the target chooses its batch size"
    rows = [
        ("target", f"{target.name}/{target.base_model}"),
        ("rows", f"{size.train_rows:,} to train on, {size.validation_rows:,} held back; {epochs} epochs, {steps}"),
        ("tokens", f"{tokens} an epoch, {found.longest:,} in the longest row at most"),
        ("cost", _cost(target)),
        ("time", _time(target)),
    ]
    for label, text in rows:
        labelled(label.ljust(6), text)
    out("")
    if isinstance(found.needs, str):
        labelled("memory", f"not known: {found.needs}")
    else:
        _memory(found.needs, found.cards_mb)
    for reason in target.reasons:
        tell(reason)


def _cost(target: "Target") -> str:
    cost = target.cost
    if cost is None or cost.high_usd is None:
        return cost.basis if cost else "not known"
    return f"{cost_text(target)} ({cost.basis})"


def _time(target: "Target") -> str:
    time = target.time
    if time is None or time.seconds is None:
        return f"not known: {time.basis if time else 'nothing is trained there'}"
    return f"{time_text(target)} ({time.basis})"


def _memory(needs: "Mapping[Kind, Need | str]", cards_mb: tuple[int, ...]) -> None:
    head = ("MEMORY", "WEIGHTS", "TRAINED", "ROWS", "RECOMPUTED", "TOGETHER", "FITS")
    rows, unknown = [], []
    for kind, each in needs.items():
        if isinstance(each, str):
            rows.append((str(kind), *["?"] * (len(head) - 1)))
            unknown.append(f"{kind}: {each}")
        else:
            held = (bytes_text(each.weights), bytes_text(each.trained), span_text(each.least, each.most))
            again = "-" if each.again is None else bytes_text(each.again)
            rows.append((str(kind), *held, again, span_text(each.low, each.high), _card(each)))
    table(head, rows, under=("RECOMPUTED", "ROWS", "TRAINED", "WEIGHTS"))
    for line in unknown:
        flow(f"  {line}", "dim")
    if cards_mb:
        say(f"cards here: {', '.join(f'{round(each * _MIB / _GB)}GB' for each in sorted(set(cards_mb)))}")
    say("ft trains lora here; the others are for comparison. From one row at a time to all that go through at once.")
    if any(not isinstance(each, str) and each.again is not None for each in needs.values()):
        say("RECOMPUTED: one row, its activations made again where memory needs it (local.gradient_checkpointing).")


def _card(need: "Need") -> str:
    """The smallest card that takes it, and the smallest that takes all rows at once."""
    least, most = (next((size for size in _SIZES if each <= size * _GB), None) for each in (need.low, need.high))
    if least is None:
        return "no single card"
    if most is None or most == least:
        return f"a card of {least}GB"
    return f"a card of {least}GB, faster of {most}GB"
