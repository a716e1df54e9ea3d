"""data stats, preview, convert, split, redact: training rows without a job."""

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from finetune.cli import exits
from finetune.cli.output import must, out, out_json, paint, say, tell
from finetune.cli.reading import Reading
from finetune.cli.recipes import AsJson
from finetune.wiring import DataDesk

if TYPE_CHECKING:
    from finetune.data import DataReport
    from finetune.data.survey import Survey

app = typer.Typer(help="Look at training data, and write it anew.", no_args_is_help=True, rich_markup_mode=None)

Source = Annotated[
    str,
    typer.Argument(
        metavar="DATA", help="A recipe, or rows: file, folder, pattern, hf:..., s3://...", show_default=False
    ),
]
FromFormat = Annotated[str, typer.Option("--format", help="Layout of the rows.")]
Target = Annotated[str | None, typer.Option("--target", help="provider/base_model; default: the recipe's.")]
Fetch = Annotated[bool, typer.Option("--fetch", help="Read data that is not on this machine.")]
Output = Annotated[Path | None, typer.Option("--output", "-o", help="The file to write; default: stdout.")]


@app.command()
def stats(
    source: Source, format: FromFormat = "auto", target: Target = None, fetch: Fetch = False, as_json: AsJson = False
) -> None:
    """Count rows, turns and tokens, and draw how long the rows are.

    Tokens are those of the target's tokenizer where it is on this machine, else a range.

    Examples: ft data stats recipe.yaml · ft data stats train.jsonl --target local/Qwen/Qwen3-0.6B
    """
    with Reading() as reading:
        desk = DataDesk(say=say, reading=reading.show)
        found = desk.survey(desk.rows(source, format=format, target=target, fetch=fetch))
    _tell(found.report)
    if as_json:
        from finetune.views import survey

        out_json(survey(found))
    elif found.report.tally.rows:
        _print_stats(found)
    raise typer.Exit(exits.USAGE if found.report.errors else exits.OK)


@app.command()
def preview(
    source: Source,
    count: Annotated[int, typer.Option("-n", min=1, help="How many rows.")] = 3,
    to: Annotated[str | None, typer.Option("--to", help="Layout to show; default: the target's.")] = None,
    format: FromFormat = "auto",
    target: Target = None,
    fetch: Fetch = False,
) -> None:
    """Show rows as the target gets them, and what is learned of them.

    What the model learns is green on a terminal, and in [brackets] elsewhere. Where the target's tokenizer is on this
    machine, the chat template is applied and every other token underlined.

    Examples: ft data preview recipe.yaml -n 3 · ft data preview rows.jsonl --target vertex/gemini-2.5-flash
    """
    desk = DataDesk(say=say)
    found = desk.preview(desk.rows(source, format=format, target=target, fetch=fetch), count, to)
    for problem in found.problems:
        tell(problem)
    for shown in found.rows:
        tokens = "" if shown.tokens is None else f", {_range(*shown.tokens)} tokens by {found.counted_by}"
        out(paint(f"{shown.file}:{shown.line}{tokens}", "bold"))
        out(shown.row)
        out(
            "".join(
                _piece(each.text, each.learned, shown.rendered and odd % 2) for odd, each in enumerate(shown.segments)
            )
        )
        out()
    must(bool(found.rows), "there is no sound row to show", "see above", f"ft data stats {source}")


@app.command()
def convert(
    source: Source,
    to: Annotated[str, typer.Option("--to", help="Layout to write; `ft data formats` lists them.")],
    output: Output = None,
    format: FromFormat = "auto",
    lossy: Annotated[bool, typer.Option("--lossy", help="Write rows that lose something.")] = False,
    fetch: Fetch = False,
) -> None:
    """Write rows in another layout.

    Refuses to lose anything silently: without --lossy it lists what would be lost and writes nothing.

    Examples: ft data convert sharegpt.json --to openai -o train.jsonl · ft data convert a.jsonl --to gemini > b.jsonl
    """
    _copy(source, output, format=format, fetch=fetch, to=to, lossy=lossy)


@app.command()
def redact(source: Source, output: Output = None, format: FromFormat = "auto", fetch: Fetch = False) -> None:
    """Write a copy with placeholders for personal data and secrets.

    E-mail addresses, phone and card numbers, IBANs, national ids, keys and tokens become [EMAIL_1] and so on, equal
    ones of a row equally. Names, postal addresses and dates of birth are not found: docs/data.md says what is missed.

    Example: ft data redact train.jsonl -o clean.jsonl
    """
    _copy(source, output, format=format, fetch=fetch, redact=True)


@app.command()
def split(
    source: Source,
    share: Annotated[float, typer.Option("--split", min=0.0, max=1.0, help="Share of the rows to hold back.")] = 0.1,
    group_by: Annotated[str | None, typer.Option("--group-by", help="Key whose value keeps rows on one side.")] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for train.jsonl and validation.jsonl.")
    ] = Path(),
    format: FromFormat = "auto",
    fetch: Fetch = False,
) -> None:
    """Write rows into two files, chosen by content.

    The same row goes to the same file whenever it is asked, so a file that grows keeps its old split.

    Examples: ft data split rows.jsonl --split 0.1 -o data · ft data split rows.jsonl --group-by customer_id
    """
    from dataclasses import replace

    from finetune.data.writing import Copy

    must(0 < share < 1, f"--split {share} leaves one side empty", "it is a share", "write for example --split 0.1")
    with Reading() as reading:
        desk = DataDesk(say=say, reading=reading.show)
        rows = desk.rows(source, format=format, target=None, fetch=fetch)
        request = replace(rows.request, split=share, validation=None, group_by=group_by, rules=None)
        paths = output / "train.jsonl", output / "validation.jsonl"
        report = desk.copy(replace(rows, request=request), Copy(format=None, train=paths[0], validation=paths[1]))
    _tell(report)
    for path, written in zip(paths, (report.train_rows, report.validation_rows), strict=True):
        out(f"{path}  {written} rows")


@app.command()
def formats() -> None:
    """List the layouts of rows, with a row of each.

    Example: ft data formats
    """
    from finetune.data.formats import FORMATS

    for each in FORMATS.values():
        can = " and ".join(word for word, is_so in (("read", each.read), ("written", each.write)) if is_so)
        out(f"{paint(each.name, 'bold')}  {each.title}, {each.kind} rows, {can}")
        out(f"  {each.sample}")


def _copy(
    source: str,
    output: Path | None,
    *,
    format: str,
    fetch: bool,
    to: str | None = None,
    lossy: bool = False,
    redact: bool = False,
) -> None:
    from dataclasses import replace

    from finetune.data.writing import Copy

    with Reading() as reading, _file(output) as path:
        desk = DataDesk(say=say, reading=reading.show)
        rows = desk.rows(source, format=format, target=None, fetch=fetch)
        request = replace(rows.request, kind=None, validation=None, split=None, group_by=None, rules=None)
        copy = Copy(format=desk.writable(to) if to else None, train=path, lossy=lossy, redact=redact)
        report = desk.copy(replace(rows, request=request), copy)
    _tell(report)
    say(f"{report.train_rows} rows written{f' to {output}' if output else ''}")


@contextmanager
def _file(output: Path | None) -> Iterator[Path]:
    """The file to write; without one, a temporary file that goes to stdout when all went well."""
    if output is not None:
        yield output
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "rows.jsonl")
        yield path
        sys.stdout.flush()
        with path.open("rb") as file:
            shutil.copyfileobj(file, sys.stdout.buffer)
        sys.stdout.buffer.flush()


def _tell(report: "DataReport") -> None:
    for problem in report.problems:
        tell(problem)
    for note in report.notes:
        say(note)


def _print_stats(found: "Survey") -> None:
    from finetune.cli.stats import lines

    for line in lines(found, shutil.get_terminal_size((80, 24)).columns):
        out(line)


def _range(low: int, high: int) -> str:
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _piece(text: str, learned: bool, odd: int) -> str:
    if not sys.stdout.isatty():
        return f"[{text}]" if learned else text
    return paint(text, "green" if learned else "dim", underlined=bool(odd))
