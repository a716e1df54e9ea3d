"""catalogue show, catalogue scores, expiring: what targets can do and cost, and until when."""

import re
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from finetune.cli.output import flow, must, out, out_json, paint, say, table
from finetune.cli.recipes import AsJson
from finetune.wiring import CatalogueDesk

if TYPE_CHECKING:
    from finetune.catalogue.entries import Entry
    from finetune.catalogue.sheets import Price
    from finetune.catalogue.values import Claim, Day
    from finetune.expiring import Ending

app = typer.Typer(help="What targets can do and cost, and until when.", no_args_is_help=True, rich_markup_mode=None)
scores_app = typer.Typer(rich_markup_mode=None)
app.add_typer(scores_app, name="scores")

_WITHIN = re.compile(r"(0|[1-9][0-9]{0,4})([dw])")
_ENDS = {
    "closed_to_new": "closed to newcomers from",
    "closed_to_inactive": "closed to the inactive from",
    "create_until": "no new jobs from",
    "serve_until": "no answers from",
    "retired": "gone, by",
}
#: What ends for everybody.
_FOR_ALL = ("create_until", "serve_until", "retired")
_OLD = "read long ago"
#: Versions that are named, at most.
_NAMED = 5


@app.command("show")
def show(
    name: Annotated[str | None, typer.Argument(metavar="[MODEL|PROVIDER]", help="Default: all providers.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show what the catalogue says of a model at each target that has it, or of a provider; each with its source.

    The same weights count as the same model, whatever a target calls them. What was read more than 90 days ago is
    marked. A sheet of your own adds to it (FT_CATALOGUE).

    Examples: ft catalogue show · ft catalogue show Qwen/Qwen3.5-9B · ft catalogue show openai --json
    """
    blank = name is not None and not name.strip()
    must(not blank, "MODEL|PROVIDER is empty", "it is the name of one", "name one, or leave it out for all providers")
    desk = CatalogueDesk(say=say)
    found = desk.sheets() if name is None else desk.entries(name)
    if as_json:
        from finetune.views import entry

        out_json([entry(each) for each in found])
    elif name is None:
        head = ("PROVIDER", "TITLE", "KIND", "METHODS", "MODELS", "ENDS", "READ")
        table(head, [_overview(each) for each in found], under=("MODELS", "KIND", "TITLE"))
        say("`ft catalogue show PROVIDER` or MODEL tells all of it, with sources")
    else:
        for each in found:
            _draw(each)


@scores_app.callback(invoke_without_command=True)
def scores(
    context: typer.Context,
    name: Annotated[str | None, typer.Option("--name", help="All scores of this import.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the scores of base models that were imported; recipes ask for them under `limits.quality`.

    None come with ft: import those that you trust.

    Examples: ft catalogue scores · ft catalogue scores --name arena --json
    """
    if context.invoked_subcommand is not None:
        return
    desk = CatalogueDesk(say=say)
    found = {name: desk.scores_of(name)} if name else desk.scores
    if as_json:
        out_json([{"name": each, "scores": dict(rows)} for each, rows in found.items()])
    elif name:
        rows = sorted(found[name].items(), key=lambda each: -each[1])
        table(("MODEL", "SCORE"), [(model, f"{score:g}") for model, score in rows])
    elif found:
        head = ("NAME", "MODELS", "LEAST", "MOST")
        spans = [
            (each, str(len(rows)), f"{min(rows.values()):g}", f"{max(rows.values()):g}") for each, rows in found.items()
        ]
        table(head, spans)
    else:
        say("no scores yet: `ft catalogue scores import FILE.csv --name NAME` imports some")


@scores_app.command("import")
def import_scores(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="CSV whose first line names its columns.", show_default=False)
    ],
    name: Annotated[str, typer.Option("--name", help="What recipes call them under limits.quality.")],
    model_column: Annotated[str, typer.Option("--model-column", metavar="COLUMN", help="The models' names.")] = "model",
    score_column: Annotated[str, typer.Option("--score-column", metavar="COLUMN", help="The numbers.")] = "score",
    as_json: AsJson = False,
) -> None:
    """Import scores of base models from a CSV file, in place of those of the same name.

    A model that is there twice, a score that is no number and an empty table are refused.

    Example: ft catalogue scores import arena.csv --name arena --score-column rating
    """
    from finetune.catalogue.scores import Columns

    desk = CatalogueDesk(say=say)
    place, found = desk.import_scores(file, name, Columns(model_column, score_column))
    if as_json:
        out_json({"name": name, "models": len(found), "place": str(place)})
    else:
        out(f"{name}: {len(found)} models")
        say(f"recipes ask for them with `limits: {{quality: {name} >= ...}}`")


def expiring(
    within: Annotated[
        str, typer.Option("--within", metavar="TIME", help="How far to look ahead, such as 90d or 8w.")
    ] = "90d",
    as_json: AsJson = False,
) -> None:
    """List what of ours ends soon, or has ended, by the catalogue's dates: models, jobs, recipes; with what to do.

    A model ends when its provider switches it off, a recipe when its target takes no more jobs. Sends nothing.

    Examples: ft expiring · ft expiring --within 26w --json
    """
    span = _WITHIN.fullmatch(within)
    why = "it is a number of days or weeks, 99999 at most"
    must(span is not None, f"--within {within} is no time that ft looks ahead", why, "--within 90d")
    assert span is not None
    desk = CatalogueDesk(say=say)
    found = desk.expiring(timedelta(days=int(span[1]) * (7 if span[2] == "w" else 1)))
    if as_json:
        from finetune.views import ending

        out_json([ending(each) for each in found])
    elif found:
        head = ("DAY", "LEFT", "WHAT", "NAME", "TARGET", "ENDS")
        table(head, [_ending(each) for each in found], under=("ENDS", "TARGET"))
        for fix, names in _fixes(found).items():
            flow(f"{', '.join(names)}: {fix}")
    else:
        without = "; what stand-ins have trained is left out" if desk.settings.sandbox else ""
        say(f"nothing of ours ends within {within}, as far as the catalogue knows{without}")
    if undated := desk.undated():
        say(f"of {some(undated)} the catalogue has no last day")


def some(names: list[str]) -> str:
    """The first few, and how many more there are."""
    rest = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + rest


def _ending(one: "Ending") -> tuple[str, ...]:
    sure = " or later" if one.at_least else ""
    left = f"{one.days} days" if one.days > 0 else "over"
    ends = "does not answer any more" if one.what == "serve_until" else "cannot be trained there"
    return f"{one.day}{sure}", left, one.kind, one.ref, f"{one.provider}/{one.base_model}", ends


def _fixes(found: "list[Ending]") -> dict[str, list[str]]:
    """Who needs what done: each thing once."""
    by_fix: dict[str, list[str]] = {}
    for each in found:
        names = by_fix.setdefault(each.fix, [])
        if each.ref not in names:
            names.append(each.ref)
    return by_fix


def _overview(one: "Entry") -> tuple[str, ...]:
    sheet = one.sheet
    ends = min((day.value.isoformat() for name, day in one.ends if name in _FOR_ALL), default="-")
    read = min((each.read.isoformat() for each in one.sources.values()), default="-")
    methods = " ".join(one.methods) if sheet.tunes is None or sheet.tunes.value else "-"
    marked = f"{read} {_OLD}" if one.stale else read
    return sheet.provider, sheet.title, sheet.kind, methods or "-", str(len(sheet.models)), ends, marked


def _draw(one: "Entry") -> None:
    sheet = one.sheet
    name = f"{sheet.provider}/{one.base_model}" if one.base_model else sheet.provider
    out(paint(name, "bold") + f"  {sheet.title}, {sheet.kind}")
    for label, text in _facts(one):
        flow(f"  {label.ljust(9)}{text}", hang=" " * 11)
    for key, source in one.sources.items():
        stale = key in one.stale
        told = f"of {source.dated}, read {source.read}" if source.dated else f"read {source.read}"
        told += f" ({_OLD}: look again)" if stale else ""
        flow(f"  [{key}] {source.title}, {told}: {source.url}", "yellow" if stale else "dim", hang=" " * 6)


def _facts(one: "Entry") -> list[tuple[str, str]]:
    sheet, model = one.sheet, one.model
    rows = _methods(one)
    if sheet.access:
        rows.append(("access", _said(sheet.access.value, sheet.access)))
    if sheet.tunes:
        rows.append(("tunes", _said(_value(sheet.tunes.value), sheet.tunes)))
    if model and model.context:
        rows.append(("context", _said(f"{model.context.value:,} tokens", model.context)))
    if model and model.open_weights:
        rows.append(("weights", _said(model.open_weights.value, model.open_weights)))
    rows += [("date", _day(name, day)) for name, day in one.ends]
    rows += [("price", _price(each)) for each in one.prices]
    rows += [("limits", text) for text in _limits(one)]
    rows += [("served", _said(each.at, each)) for each in sheet.served]
    rows += [("region", _said(each.value, each)) for each in sheet.regions]
    rows += [("way", _said(each.value, each)) for each in sheet.ways]
    if one.base_model is None and sheet.models:
        rows.append(("models", ", ".join(each.name for each in sheet.models)))
    return rows


def _methods(one: "Entry") -> list[tuple[str, str]]:
    """What is said of each method of a model; of a provider, and of what its sheet does not name, those of its rows."""
    from finetune.catalogue import METHODS

    said, texts = one.method_claims, []
    for method in METHODS if one.model else ():
        if claim := said.get(method):
            texts.append(_said(f"{method} {_value(claim.value)}", claim))
        elif method in one.limits:
            texts.append(f"{method}: whether it is trained by that is not published")
    return [("methods", text) for text in texts or [", ".join(one.methods) or "none is published"]]


def _said(text: str, claim: "Claim") -> str:
    return f"{text} [{claim.source}]" + (f"; {claim.note}" if claim.note else "")


def _day(name: str, day: "Day") -> str:
    return _said(f"{_ENDS[name]} {day.value}{' or later' if day.at_least else ''}", day)


def _price(one: "Price") -> str:
    span = one.parameters
    sizes = [f"above {_many(span.above)}"] if span and span.above else []
    sizes += [f"to {_many(span.up_to)}"] if span and span.up_to else []
    for_whom = ", ".join(each for each in (one.method, one.tuning, one.deployment, " ".join(sizes)) if each)
    return _said(f"{one.usd} USD per {one.per}{f' ({for_whom})' if for_whom else ''}", one)


def _many(parameters: int) -> str:
    return f"{parameters / 10**9:g}B"


def _limits(one: "Entry") -> list[str]:
    lines = []
    for method, rules in one.limits.items():
        said = [f"{name} {_value(getattr(rules, name))}" for name in rules.sources]
        lines.append(f"{method} as {rules.format}" + (f": {', '.join(said)}" if said else ""))
    lines += [_said(name, claim) for name, claim in one.noted_limits]
    return lines


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, frozenset):
        return "+".join(sorted(value))
    return f"{value:,}"
