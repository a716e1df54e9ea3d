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
from finetune.cli.reading import Reading
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
    put(schema_path, schema_text)
    put(path, text)
    out(str(path))
    say(f"next: put your chats into {path.parent / data}, then `ft validate {path}`")


def validate(
    recipes: Recipes,
    overrides: Overrides = None,
    fetch: Annotated[bool, typer.Option("--fetch", help="Read data that is not on this machine.")] = False,
    near: Annotated[
        bool | None, typer.Option("--near/--no-near", help="Look for near duplicates; default: in up to 64 MB.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Tell each fault on its own.")] = False,
    as_json: AsJson = False,
) -> None:
    """Check recipes and their data.

    Needs no network and no GPU, and reports everything at once: faults of one kind together, with their lines.

    Examples: ft validate recipe.yaml · ft validate recipes/*.yaml --json · ft validate recipe.yaml --all
    """
    with Reading() as reading:
        desk = Desk(say=say, reading=reading.show)
        how = {"fetch": fetch, "near": near, "every": every}
        checked = [_check(desk, path, overrides or (), how) for path in recipes]
    for report, _ in checked:
        _tell(report)
    if as_json:
        out_json([_as_json(desk, report) for report, _ in checked])
    else:
        for report in (report for report, _ in checked if report["valid"]):
            length = f"{report['steps']} steps" if report["steps"] else f"{report['epochs']} epochs"
            rows = "{train_rows} rows to train on, {validation_rows} held out".format_map(report) + f", {length}"
            out(f"{report['recipe']}: {paint('valid', 'green')}: {report['name']} on {report['target']}, {rows}")
    raise typer.Exit(max(code for _, code in checked))


def _check(desk: Desk, path: Path, overrides: Sequence[str], how: dict[str, Any]) -> tuple[dict[str, Any], int]:
    """What is wrong with one recipe, and its exit code. Others are checked all the same."""
    report: dict[str, Any] = {"recipe": str(path), "valid": False}
    problems: tuple[Problem, ...] = ()
    chatter: tuple[str, ...] = ()
    code = exits.OK
    try:
        file = desk.read(path, overrides)
        problems = file.notes
        plan, data = desk.submitter.check(file, **how)
    except FtError as error:
        problems, code = (*problems, *error.problems), error.exit_code
    else:
        problems = (*problems, *plan.warnings, *data.problems)
        report |= {"valid": True, "name": file.recipe.name, **desk.views.plan(plan), **desk.views.data(data)}
        # Of layouts only those that were found out: what the recipe says need not be told.
        chatter = (*data.notes, *(file.line for file in data.files if file.detected))
    return {**report, "problems": problems, "chatter": chatter}, code


def _tell(report: dict[str, Any]) -> None:
    for problem in report["problems"]:
        tell(problem)
    for line in report["chatter"]:
        say(line)


def _as_json(desk: Desk, report: dict[str, Any]) -> dict[str, Any]:
    told = {key: value for key, value in report.items() if key != "chatter"}
    return {**told, "problems": [desk.views.problem(one) for one in report["problems"]]}


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


def put(path: Path, text: str) -> None:
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
