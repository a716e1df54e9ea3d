"""init, validate, schema, explain: what needs no job."""

import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from finetune.cli import exits
from finetune.cli.output import confirm, must, out, out_json, paint, say, tell
from finetune.errors import FtError, NotFound, Problem, RecipeError
from finetune.wiring import Desk

Recipes = Annotated[list[Path], typer.Argument(help="Recipe files.", show_default=False)]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="Override a field, e.g. lora.r=32.")
]
BUILTIN = "builtin:tiny-llama"
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON (docs/json.md).")]
Yes = Annotated[bool, typer.Option("-y", "--yes", help="Answer yes to every question.")]


def init(
    path: Annotated[Path, typer.Argument(help="Where to write the recipe.")] = Path("recipe.yaml"),
    name: Annotated[str | None, typer.Option(help="The tuned model's name; default: the folder's.")] = None,
    base_model: Annotated[str, typer.Option(help="What to tune: a folder, a hub id, or built in.")] = BUILTIN,
    data: Annotated[str, typer.Option(help="Chats as JSON lines, relative to the recipe.")] = "data.jsonl",
    yes: Yes = False,
) -> None:
    """Write a commented recipe to start from.

    Examples: ft init · ft init recipes/support.yaml --name support-bot
    """
    desk = Desk()
    must(not path.is_dir(), f"{path} is a folder", "a recipe is a file", f"ft init {path / 'recipe.yaml'}")
    schema_path = path.with_name("recipe.schema.json")
    if path.exists():
        may = confirm(f"{path} exists; overwrite it?", yes=yes, unasked=False)
        must(may, f"{path} exists already", "it would be lost", "name another file, or overwrite it with -y")
    text, schema_text = desk.starter(name or _slug(path.absolute().parent.name), base_model, data)
    _must_be_valid(text, path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _put(schema_path, schema_text)
    _put(path, text)
    out(str(path))
    say(f"next: put your chats into {path.parent / data}, then `ft validate {path}`")


def validate(recipes: Recipes, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Check recipes and their data.

    Needs no network and no GPU, and reports everything at once.

    Examples: ft validate recipe.yaml · ft validate recipes/*.yaml --json
    """
    desk = Desk()
    checked = [_check(desk, path, overrides or ()) for path in recipes]
    if as_json:
        out_json([report for report, _ in checked])
    else:
        for report in (report for report, _ in checked if report["valid"]):
            rows = "{train_rows} rows to train on, {validation_rows} held out, {steps} steps".format_map(report)
            out(f"{report['recipe']}: {paint('valid', 'green')}: {report['name']} on {report['target']}, {rows}")
    raise typer.Exit(max(code for _, code in checked))


def _check(desk: Desk, path: Path, overrides: Sequence[str]) -> tuple[dict[str, Any], int]:
    """Tell what is wrong with one recipe; the same as JSON, and its exit code. Others are checked all the same."""
    report: dict[str, Any] = {"recipe": str(path), "valid": False}
    problems: tuple[Problem, ...] = ()
    code = exits.OK
    try:
        file = desk.read(path, overrides)
        problems = file.notes
        plan, warnings = desk.submitter.check(file)
    except FtError as error:
        problems, code = (*problems, *error.problems), error.exit_code
    else:
        problems = (*problems, *warnings)
        report |= {"valid": True, "name": file.recipe.name, **desk.views.plan(plan)}
    for problem in problems:
        tell(problem)
    return {**report, "problems": [desk.views.problem(one) for one in problems]}, code


def schema() -> None:
    """Print the JSON Schema of the recipe, for editors.

    Example: ft schema > recipe.schema.json
    """
    out(Desk().schema_text().rstrip())


def explain(
    code: Annotated[str | None, typer.Argument(help="E and three digits; without it, all codes.")] = None,
) -> None:
    """Explain an error code: cause, consequence, remedy.

    Examples: ft explain E102 · ft explain
    """
    codes = Desk().codes
    if code is None:
        for each, text in sorted(codes.items()):
            out(f"{each}  {text.title}")
        return
    found = codes.get(code.upper())
    if found is None:
        raise NotFound(
            Problem(
                code="E704",
                what=f"there is no error code {code!r}",
                why="a code is E and three digits, as in the first line of an error",
                fix="`ft explain` lists all of them",
            )
        )
    out(f"{paint(code.upper(), 'bold')}  {found.title}\n\n{found.text}")


def _must_be_valid(text: str, path: Path) -> None:
    """Raise RecipeError, without the places in a file that is not written yet, when an option was no good."""
    from finetune.spec import parse

    try:
        parse(text, path)
    except RecipeError as error:
        raise RecipeError(*(replace(one, file=None, line=None, column=None) for one in error.problems)) from None


def _put(path: Path, text: str) -> None:
    """Write the file whole or not at all: after a full disk nothing is in the way of a second try."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        aside.write_text(text, encoding="utf-8")
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def _slug(text: str) -> str:
    """The folder's name, made fit for a model's name."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-._")[:64] or "my-model"
