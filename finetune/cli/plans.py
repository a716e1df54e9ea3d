"""plan, retarget, import: every target side by side; a recipe for another one; what others have trained."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from finetune.cli import exits
from finetune.cli.jobs import Shown, send
from finetune.cli.output import must, out, out_json, paint, say, table, tell
from finetune.cli.reading import Reading
from finetune.cli.recipes import AsJson, Overrides, Yes, put
from finetune.wiring import Desk

if TYPE_CHECKING:
    from finetune.importing import Imported
    from finetune.spec import RecipeFile
    from finetune.submission import Ready
    from finetune.targets import Target
    from finetune.traces import Scope

_WORDS = {"chosen": "CHOSEN", "possible": "yes", "conditional": "on conditions", "no": "no"}
_MINUTE, _HOUR = 60, 3600
#: Letters of a value in the table of changes.
_WIDE = 48


def plan(
    recipe: Annotated[Path, typer.Argument(help="A recipe file.", show_default=False)],
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Compare every target for a recipe: cost, time, dates, and which one is chosen, and why not the others.

    Nothing is sent and nothing is queued. Exit code 0: something can run it; 6: nothing can; 7: only the budget is in
    the way.

    Examples: ft plan recipe.yaml · ft plan recipe.yaml --set provider=auto --json
    """
    with Reading() as reading:
        desk = Desk(say=say, reading=reading.show)
        file = desk.read(recipe, overrides or [])
        found = desk.targets(file)
    for note in file.notes:
        tell(note)
    if as_json:
        out_json([desk.views.target(each) for each in found])
    else:
        _draw(found)
    if code := _code([each for each in found if file.recipe.provider in ("auto", each.name)]):
        raise typer.Exit(code)


def retarget(
    model: Annotated[str, typer.Argument(metavar="NAME[@ALIAS]", help="A version.", show_default=False)],
    to: Annotated[str, typer.Option("--to", metavar="TARGET", help="provider, or provider/base_model.")],
    gateways: Annotated[
        list[str] | None, typer.Option("--gateway", help="Where it shall be served; default: where the alias is now.")
    ] = None,
    overrides: Overrides = None,
    output: Annotated[Path | None, typer.Option("--output", help="Write the new recipe here; submit nothing.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Stay until the job has ended.")] = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Train a version again at another target: its rows, its gate, its alias.

    Shows what of the recipe changes, and why. The alias moves when the new version has passed the same gate; until then
    the old one answers.

    Examples: ft retarget support-bot --to local/Qwen/Qwen3-0.6B · ft retarget bot --to together --output bot.yaml
    """
    from finetune.traces import Scope

    there = output is not None and output.exists()
    must(not there, f"{output} exists already", "it would be lost", "name another file, or remove it")
    begun = Scope("ft retarget")
    with Reading() as reading:
        desk = Desk(say=say, reading=reading.show)
        file, made = desk.retarget(model, to, gateways, overrides or [])
        ready = None if output else _ready(desk, file, begun)
    rows = [(each.field, _short(each.before), _short(each.after), each.why) for each in made.changes]
    table(("FIELD", "WAS", "IS", "BECAUSE"), rows, to=say)
    if ready is None or output is not None:
        assert output is not None
        put(output, desk.written(file))
        out(str(output))
        return
    shown = Shown(follow=follow, as_json=as_json, quiet=False, rehearsed=False)
    send(desk, [ready], [begun], shown, force=False, yes=yes)


def take_in(
    provider: Annotated[str, typer.Argument(help="Whose jobs: openai, azure.", show_default=False)],
    export: Annotated[
        Path | None, typer.Option("--from", metavar="FILE", help="Jobs as its API lists them, instead of asking.")
    ] = None,
    files: Annotated[
        Path | None, typer.Option("--files", metavar="FOLDER", help="Training files by id, instead of fetching them.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Take the fine-tuning jobs of an account into the registry: models, hyperparameters, training files.

    From then on `ft retarget` trains them again elsewhere. Nothing there is changed, and nothing is paid. Again is the
    same.

    Examples: ft import openai · ft import openai --from jobs.json --files training/
    """
    desk = Desk(say=say)
    found = desk.take_in(provider, export, files)
    if as_json:
        out_json([desk.views.imported(each) for each in found])
    elif found:
        head = ("VERSION", "TUNED MODEL", "BASE MODEL", "ROWS", "")
        table(
            head,
            [(e.ref or "-", e.model, e.base_model, "gone" if e.rows is None else str(e.rows), _note(e)) for e in found],
        )
        say("next: `ft expiring` tells until when they answer, `ft retarget NAME@vN --to TARGET` trains one elsewhere")
    else:
        say(f"{export or provider} has no fine-tuning job that has ended well")


def costs(as_json: AsJson = False) -> None:
    """Compare what trainings were reckoned to cost with what they have cost, by provider.

    Counted by the provider or this machine; else the tokens that it has trained on, at the published price.

    Examples: ft costs · ft costs --json
    """
    from finetune.spending import tallies

    desk = Desk(say=say)
    found = desk.spendings()
    if as_json:
        out_json([desk.views.spending(each) for each in found])
        return
    head = ("PROVIDER", "JOBS", "COMPARED", "ESTIMATED USD", "ACTUAL USD", "WITHIN", "MEAN ERROR")
    rows = [
        (
            each.provider,
            str(each.jobs),
            str(each.compared),
            f"{each.estimated_low}-{each.estimated_high}" if each.compared else "-",
            f"{each.actual:.2f}" if each.compared else "-",
            f"{each.within} of {each.compared}" if each.compared else "-",
            "-" if each.mean_error is None else f"{each.mean_error:.0%}",
        )
        for each in tallies(found)
    ]
    if rows:
        table(head, rows)
    else:
        say("no job has ended well yet: there is nothing to compare")


def _note(one: "Imported") -> str:
    return one.why or ("here already" if one.known else "")


def _ready(desk: Desk, file: "RecipeFile", begun: "Scope") -> "Ready":
    with begun:
        return desk.submitter.ready(file)


def _short(value: object) -> str:
    text = "-" if value is None else str(value)
    return text if len(text) <= _WIDE else f"...{text[3 - _WIDE :]}"


def _code(found: "list[Target]") -> int:
    if any(each.verdict == "chosen" for each in found):
        return exits.OK
    # What only costs too much is a question of money, not of the recipe.
    dear = any(each.reasons and all(one.code in ("E310", "E311") for one in each.reasons) for each in found)
    return exits.OVER_BUDGET if dear else exits.NOT_ELIGIBLE


def _draw(found: "list[Target]") -> None:
    able = [each for each in found if each.verdict != "no"]
    if able:
        head = ("TARGET", "MODEL", "COST", "TIME", "DATA", "CONTEXT", "SERVED BY", "ENDS", "VERDICT")
        table(head, [_cells(each) for each in able])
        for each in able:
            for reason in each.reasons:
                out(paint(f"  {each.name}: {reason.what}", "dim"))
    else:
        out("no target takes this recipe")
    rest = [each for each in found if each.verdict == "no"]
    if rest:
        out("")
        table(("NOT", "BECAUSE"), [(each.name, _because(each)) for each in rest])
    if able and able[0].verdict == "chosen":
        say(f"next: `ft submit` takes {able[0].name}; `--set provider=NAME` takes another")


def _cells(target: "Target") -> tuple[str, ...]:
    return (
        target.name,
        target.base_model or "-",
        _cost(target),
        _time(target),
        "leaves" if target.leaves else "stays",
        f"{target.context:,}" if target.context else "?",
        " ".join(target.served) or "?",
        _ends(target),
        _WORDS[target.verdict],
    )


def _because(target: "Target") -> str:
    first = target.reasons[0]
    more = f" (and {len(target.reasons) - 1} more)" if len(target.reasons) > 1 else ""
    way = f"; {first.fix}" if first.code == "E319" else ""
    return f"{first.what}{way}{more}"


def _cost(target: "Target") -> str:
    cost = target.cost
    if cost is None or cost.high_usd is None:
        return "?" if target.leaves else "own machines"
    return f"{cost.high_usd} USD" if cost.low_usd == cost.high_usd else f"{cost.low_usd}-{cost.high_usd} USD"


def _time(target: "Target") -> str:
    if target.seconds is None:
        return "?"
    low, high = (_span(each) for each in target.seconds)
    return low if low == high else f"{low}-{high}"


def _span(seconds: float) -> str:
    if seconds < _MINUTE:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / _MINUTE:.0f} min" if seconds < _HOUR else f"{seconds / _HOUR:.1f} h"


def _ends(target: "Target") -> str:
    days = [each.isoformat() for each in (target.create_until, target.serve_until) if each]
    return min(days, default="-")
