"""models fetch, models export, models gc: versions for use elsewhere, and what may be thrown away here."""

import re
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from finetune.cli.models import Ref
from finetune.cli.output import confirm, must, out, out_json, say
from finetune.cli.recipes import AsJson, Yes
from finetune.wiring import Desk

if TYPE_CHECKING:
    from finetune.exports.garbage import Found
    from finetune.jobs import Json

_KINDS = ("hf", "mlflow", "merged")
_REPO = re.compile(r"[\w.-]+/[\w.-]+")
_AGE = re.compile(r"([1-9][0-9]{0,4})([dw])")
_UNITS = ("B", "KB", "MB", "GB", "TB")


def fetch(model: Ref, as_json: AsJson = False) -> None:
    """Bring the adapter that a provider has trained to this machine, where the provider gives it away.

    From then on the version is one of this machine's: gateways get its adapter, and nobody asks the provider. Again is
    the same.

    Example: ft models fetch support-bot@v3
    """
    desk = Desk(say=say)
    say(f"fetching the adapter of {model}")
    one = desk.fetch_weights(model)
    if as_json:
        out_json(desk.views.model(one))
    else:
        out(f"{one.ref} is here: {one.artifact['path']}, an adapter of {one.base_model}")


def export(
    model: Ref,
    to: Annotated[
        str,
        typer.Option("--to", metavar="hf|mlflow|merged", help="Adapter, MLflow's layout, or base with adapter."),
    ] = "hf",
    place: Annotated[
        str | None, typer.Option("--out", help="A new folder, or s3:// or gs:// and a prefix. Default: ./NAME-vN-KIND.")
    ] = None,
    push: Annotated[
        str | None, typer.Option(metavar="OWNER/REPO", help="To the Hugging Face Hub instead (hf only), privately.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write a version for use elsewhere: adapter, merged model, or MLflow's layout.

    The adapter's files are checked first; a merged model is loaded again and must answer as the adapter does. What is
    written is whole or not there, and nothing is overwritten.

    Examples: ft models export support-bot@v3 · ft models export support-bot@v3 --to merged --out s3://models/bot-v3
    """
    must(to in _KINDS, f"there is no export {to!r}", f"there are {', '.join(_KINDS)}", "--to hf")
    if push is not None:
        must(to == "hf", f"--push does not go with --to {to}", "the hub gets the adapter", "leave one of them out")
        must(place is None, "--push and --out are two places", "an export has one", "leave one of them out")
        must(bool(_REPO.fullmatch(push)), f"--push {push} is no repository", "it has an owner and a name", "OWNER/REPO")
    desk = Desk(say=say)
    one = desk.registry.version(model)
    where = place or f"{one.ref.replace('@', '-')}-{to}"
    made = desk.push(one, push) if push else desk.exporter.export(one, to, where)
    if as_json:
        out_json({**vars(made), "files": list(made.files), "notes": list(made.notes)})
        return
    for name in made.files:
        say(f"  {name}")
    for note in made.notes:
        say(f"note: {note}")
    out(f"{made.ref} as {made.kind}: {made.place} ({_size(made.bytes)})")


def gc(
    older_than: Annotated[
        str, typer.Option("--older-than", metavar="AGE", help="Nothing younger, such as 30d or 8w; a day at least.")
    ] = "1d",
    retired: Annotated[
        bool, typer.Option("--retired", help="Files of retired versions too, to which nothing leads back.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Remove adapters that no version has, and checkpoints of trainings that have ended.

    With FT_ARTIFACTS that includes the bucket. What a version refers to stays. With --retired the files of retired
    versions go too, unless an alias, a roll back, a gateway or an unfinished promotion leads to them; the version stays
    in the books, and is marked.

    Example: ft models gc --dry-run
    """
    age = _AGE.fullmatch(older_than)
    must(age is not None, f"--older-than {older_than} is no age", "it is a number of days or weeks", "--older-than 30d")
    assert age is not None
    desk = Desk(say=say)
    heap = desk.garbage.look(timedelta(days=int(age[1]) * (7 if age[2] == "w" else 1)), retired=retired)
    gone, strange = list(heap.found), len(heap.strange) + len(heap.strange_copies)
    if gone and not dry_run:
        total = _size(sum(each.bytes for each in gone))
        agreed = confirm(f"remove {len(gone)} folders, {total}?", yes=yes, unasked=False)
        must(agreed, "nothing was removed", "what is removed cannot be brought back", "repeat it with -y")
        gone = desk.garbage.remove(heap)
    if as_json:
        rows = [_row(each) for each in gone]
        out_json({"removed": [] if dry_run else rows, "found": rows if dry_run else [], "strange": strange})
        return
    for each in gone:
        place = each.path if each.here else each.remote
        out(f"{'would go' if dry_run else 'removed'}  {_size(each.bytes):>9}  {place}  {each.why}")
        if each.remote and each.here:
            out(f"  and its copy {each.remote}")
    if strange:
        say(f"{strange} adapters were left alone: this database knows nothing of the trainings that made them")
    if not gone:
        say("nothing to remove")


def _row(found: "Found") -> "Json":
    return {
        "path": str(found.path) if found.here else None,
        "uri": found.remote,
        "bytes": found.bytes,
        "why": found.why,
        "models": [one.ref for one in found.versions],
    }


def _size(count: int) -> str:
    value, unit = float(count), 0
    while value >= 1000 and unit < len(_UNITS) - 1:
        value, unit = value / 1000, unit + 1
    return f"{value:.1f} {_UNITS[unit]}" if unit else f"{count} B"
