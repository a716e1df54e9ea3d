"""init, validate, schema, explain: what needs no job."""

from pathlib import Path
from typing import Annotated

import typer

from finetune.cli.output import confirm, must, out, out_json, paint, say, tell
from finetune.errors import NotFound, Problem
from finetune.wiring import Parts

Recipes = Annotated[list[Path], typer.Argument(help="Recipe files.", show_default=False)]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="Override a field, e.g. lora.r=32.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON (docs/json.md).")]
Yes = Annotated[bool, typer.Option("-y", "--yes", help="Answer yes to every question.")]


def init(
    path: Annotated[Path, typer.Argument(help="Where to write the recipe.")] = Path("recipe.yaml"),
    name: Annotated[str | None, typer.Option(help="The model's name; default: the folder's name.")] = None,
    yes: Yes = False,
) -> None:
    """Write a commented recipe to start from.

    Examples: ft init · ft init recipes/support.yaml --name support-bot
    """
    parts = Parts()
    schema_path = path.with_name("recipe.schema.json")
    if path.exists():
        may = yes or confirm(f"{path} exists; overwrite it?", yes=False)
        must(may and (yes or _terminal()), f"{path} exists already", "name another file, or overwrite it with -y")
    text, schema_text = parts.starter(name or path.absolute().parent.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    schema_path.write_text(schema_text)
    out(str(path))
    say(f"next: put your data where `dataset.path` points, then `ft validate {path}`")


def validate(recipes: Recipes, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Check recipes and their data.

    Needs no network and no GPU, and reports everything at once.

    Examples: ft validate recipe.yaml · ft validate recipes/*.yaml --json
    """
    parts = Parts()
    reports = []
    for path in recipes:
        file = parts.read(path, overrides or ())
        for note in file.notes:
            tell(note)
        plan, _ = parts.submitter.plan(file)
        reports.append({"recipe": str(path), "name": file.recipe.name, "target": plan.target, "steps": plan.steps})
        if not as_json:
            rows = f"{plan.train_rows} rows to train on, {plan.validation_rows} held out, {plan.steps} steps"
            out(f"{path}: {paint('valid', 'green')}: {file.recipe.name} on {plan.target}, {rows}")
    if as_json:
        out_json(reports)


def schema() -> None:
    """Print the JSON Schema of the recipe, for editors.

    Example: ft schema > recipe.schema.json
    """
    out(Parts().schema_text().rstrip())


def explain(
    code: Annotated[str | None, typer.Argument(help="E and three digits; without it, all codes.")] = None,
) -> None:
    """Explain an error code: cause, consequence, remedy.

    Examples: ft explain E102 · ft explain
    """
    codes = Parts().codes
    if code is None:
        for each, text in sorted(codes.items()):
            out(f"{each}  {text.title}")
        return
    found = codes.get(code.upper())
    if found is None:
        raise NotFound(
            Problem(code="E704", what=f"there is no error code {code!r}", fix="`ft explain` lists all of them")
        )
    out(f"{paint(code.upper(), 'bold')}  {found.title}\n\n{found.text}")


def _terminal() -> bool:
    import sys

    return sys.stdin.isatty()
