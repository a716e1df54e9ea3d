"""plan, retarget, import: every target side by side; a recipe for another one; what others have trained."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from finetune.cli import exits
from finetune.cli.jobs import Shown, send
from finetune.cli.output import flow, must, out, out_json, say, table, tell
from finetune.cli.reading import Reading
from finetune.cli.recipes import AsJson, Overrides, Yes, put
from finetune.errors import AuthenticationFailed, FtError
from finetune.wiring import Desk

if TYPE_CHECKING:
    from finetune.importing import Imported
    from finetune.retarget import Retarget
    from finetune.spec import RecipeFile
    from finetune.submission import Ready
    from finetune.targets import Target
    from finetune.traces import Scope

_WORDS = {"chosen": "CHOSEN", "possible": "yes", "conditional": "on conditions", "no": "no"}
_MINUTE, _HOUR = 60, 3600
_STDOUT = Path("-")
#: Targets that are told how to mend, and reasons of each.
_NEAREST, _MENDED = 3, 5
#: Columns that a narrow terminal has below their row, the first of them first.
_UNDER = ("SERVED BY", "CONTEXT", "DATA", "MODEL", "ENDS")
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
    asked = [each for each in found if file.recipe.provider in ("auto", each.name)]
    if code := exit_code(asked):
        if not as_json:
            _mend(asked)
        raise typer.Exit(code)


def retarget(
    model: Annotated[str, typer.Argument(metavar="NAME[@ALIAS]", help="A version; or NAME@vN.", show_default=False)],
    to: Annotated[str, typer.Option("--to", metavar="TARGET", help="provider, or provider/base_model.")],
    gateways: Annotated[
        list[str] | None, typer.Option("--gateway", help="Where it shall be served; default: where the alias is now.")
    ] = None,
    overrides: Overrides = None,
    output: Annotated[
        Path | None, typer.Option("--output", help="Write the new recipe here, or to stdout (-); submit nothing.")
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Stay until the job has ended.")] = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Train a version again at another target: its rows, its gate, its alias.

    Shows what of the recipe changes, and why. The alias moves when the new version has passed the same gate; until then
    the old one answers. With --output the recipe is checked as well, and written only if nothing is against it.

    Examples: ft retarget support-bot --to local/Qwen/Qwen3-0.6B · ft retarget bot --to together --output bot.yaml
    """
    from finetune.traces import Scope

    if output not in (None, _STDOUT):
        _must_be_free(output)
    twice = next((each for each in overrides or () if each.partition("=")[0].strip() == "provider"), None)
    must(twice is None, f"--set {twice} beside --to", "--to says the provider", f"leave one out: --to {to}")
    begun = Scope("ft retarget")
    with Reading() as reading:
        desk = Desk(say=say, reading=reading.show)
        file, made = desk.retarget(model, to, gateways, overrides or [], None if output == _STDOUT else output)
        rows = [(each.field, _short(each.before), _short(each.after), each.why) for each in made.changes]
        table(("FIELD", "WAS", "IS", "BECAUSE"), rows, to=say)
        if file.recipe.register is None:
            say("nobody asks this one, and nobody will ask the new version until `ft promote` gives it calls")
        ready = _ready(desk, file, begun, keyless=output is not None)
    if output is not None:
        _write(desk, ready, (file, made), output, as_json=as_json)
        return
    assert ready is not None
    again = "`--output FILE`, then `ft submit FILE --force`, trains again"
    shown = Shown(follow=follow, as_json=as_json, quiet=False, rehearsed=False, again=again)
    send(desk, [ready], [begun], shown, force=False, yes=yes)


def _must_be_free(output: Path) -> None:
    there, folder = output.exists() or output.is_symlink(), output.parent
    must(not there, f"{output} exists already", "it would be lost", "name another file, or remove it")
    must(folder.is_dir(), f"there is no folder {folder}", f"{output} would be in it", f"make it: mkdir -p {folder}")


def _ready(desk: Desk, file: "RecipeFile", begun: "Scope", *, keyless: bool) -> "Ready | None":
    """The recipe, checked as `ft submit` does. `keyless`: None, with a warning, where only credentials are missing."""
    try:
        with begun:
            return desk.submitter.ready(file)
    except AuthenticationFailed as error:
        if not keyless:
            raise
        # Who writes a recipe need not have the key.
        for problem in error.problems:
            tell(replace(problem, level="warning"))
        return None
    except FtError as error:
        say("the new recipe cannot be taken as it is; `--set FIELD=VALUE` changes it:")
        # It is in no file: nothing can be looked up at a line of it.
        problems = (
            replace(each, file=None, line=None, column=None) if each.file == str(file.path) else each
            for each in error.problems
        )
        raise type(error)(*problems) from None


def _write(
    desk: Desk, ready: "Ready | None", new: "tuple[RecipeFile, Retarget]", output: Path, *, as_json: bool
) -> None:
    from finetune.spec import canonical

    file, made = new
    for warning in (*file.notes, *((*ready.plan.warnings, *ready.data.warnings) if ready else ())):
        tell(warning)
    if output != _STDOUT:
        put(output, desk.written(file))
    if as_json:
        changes = [asdict(each) for each in made.changes]
        out_json({"output": str(output), "recipe": canonical(file.recipe), "changes": changes})
    else:
        out(desk.written(file).rstrip() if output == _STDOUT else str(output))


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
    same, and adds training files that were not to be had before.

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
        if any(each.ref and each.rows is None for each in found):
            say("rows that are gone: `--files FOLDER` adds them, now or later, from files that are named by their ids")
        say("next: `ft expiring` tells until when they answer, `ft retarget NAME@vN --to TARGET` trains one elsewhere")
    else:
        say(f"{export or provider} has no fine-tuning job that has ended well")


def _note(one: "Imported") -> str:
    return one.why or ("its rows were added" if one.added else "here already" if one.known else "")


def _short(value: object) -> str:
    text = "-" if value is None else str(value)
    return text if len(text) <= _WIDE else f"...{text[3 - _WIDE :]}"


def exit_code(found: "list[Target]") -> int:
    """How a comparison of these ends: by whether one is chosen, else whether only the budget is in the way."""
    from finetune.plan import refusal

    if any(each.verdict == "chosen" for each in found):
        return exits.OK
    return refusal(each.reasons for each in found).exit_code


def _mend(found: "list[Target]") -> None:
    """What would help at those that come nearest: of what has the model, those with the fewest reasons."""
    ranks = {each.name: (each.base_model is None, len(each.reasons)) for each in found if each.kind == "trainer"}
    nearest = [each for each in found if ranks and ranks.get(each.name) == min(ranks.values())]
    fixes: dict[tuple[str, str, str], list[str]] = {}
    for each in nearest[:_NEAREST]:
        for reason in each.reasons[:_MENDED]:
            fixes.setdefault((reason.what, reason.why, reason.fix), []).append(each.name)
    if fixes:
        out("")
        out("what would help where least is in the way (--json has all reasons):")
    for (what, why, fix), names in fixes.items():
        flow(f"  {', '.join(names)}: {what}")
        for label, text in (("why", why), ("fix", fix)):
            if text:
                flow(f"    {label}: {text}", hang=" " * 6)


def _draw(found: "list[Target]") -> None:
    able = [each for each in found if each.verdict != "no"]
    if able:
        head = ("TARGET", "VERDICT", "MODEL", "COST", "TIME", "DATA", "CONTEXT", "ENDS", "SERVED BY")
        table(head, [_cells(each) for each in able], under=_UNDER)
        for each in able:
            if each.time and (each.time.seconds or not each.leaves):
                said = f"time {each.time.basis}" if each.time.seconds else f"its time is not known: {each.time.basis}"
                flow(f"  {each.name}: {said}", "dim")
            if each.memory:
                flow(f"  {each.name}: {span_text(*each.memory)} of memory; `ft estimate` shows what for", "dim")
            for reason in each.reasons:
                flow(f"  {each.name}: {reason.what}", "dim")
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
        _WORDS[target.verdict],
        target.base_model or "-",
        cost_text(target),
        time_text(target),
        "leaves" if target.leaves else "stays",
        f"{target.context:,}" if target.context else "?",
        _ends(target),
        served_text(target),
    )


def _because(target: "Target") -> str:
    first = target.reasons[0]
    more = f" (and {len(target.reasons) - 1} more)" if len(target.reasons) > 1 else ""
    way = f"; {first.fix}" if first.code == "E319" else ""
    return f"{first.what}{way}{more}"


def cost_text(target: "Target") -> str:
    """What it costs, at least and at most."""
    cost = target.cost
    if cost is None or cost.high_usd is None:
        return "?" if target.leaves else "own machines"
    return f"{cost.high_usd} USD" if cost.low_usd == cost.high_usd else f"{cost.low_usd}-{cost.high_usd} USD"


def served_text(target: "Target") -> str:
    """What can answer with its result: first what is set up here, the others in parentheses."""
    here, others = " ".join(target.served_here), " ".join(at for at in target.served if at not in target.served_here)
    return f"{here} ({others})" if here and others else here or (others and f"({others})") or "?"


def time_text(target: "Target") -> str:
    """How long it takes, at least and at most."""
    if target.time is None or target.time.seconds is None:
        return "?"
    low, high = (_span(each) for each in target.time.seconds)
    return low if low == high else f"{low}-{high}"


def _span(seconds: float) -> str:
    if seconds < _MINUTE:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / _MINUTE:.0f} min" if seconds < _HOUR else f"{seconds / _HOUR:.1f} h"


def _ends(target: "Target") -> str:
    create, serve = (target.create_until, target.create_at_least), (target.serve_until, target.serve_at_least)
    days = [(day, at_least) for day, at_least in (create, serve) if day]
    day, at_least = min(days, default=(None, False))
    return "-" if day is None else f"{day}{' or later' if at_least else ''}"


def bytes_text(size: int) -> str:
    """Memory as people read it."""
    return f"{size / 1e9:.1f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB"


def span_text(low: int, high: int) -> str:
    """A range of it."""
    least, most = bytes_text(low), bytes_text(high)
    return least if least == most else f"{least} - {most}"
