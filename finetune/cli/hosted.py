"""providers, files, sandbox: what is about hosted APIs."""

import math
import shlex
from typing import TYPE_CHECKING, Annotated

import typer

from finetune.cli.output import complain, confirm, must, out, out_json, paint, say, table, tell
from finetune.cli.recipes import AsJson, Yes
from finetune.wiring import Desk
from finetune.wiring.rehearsal import How

if TYPE_CHECKING:
    from finetune.offers import Offer

Provider = Annotated[str | None, typer.Option("--provider", help="Only this one.")]


def providers(
    name: Annotated[str | None, typer.Argument(metavar="[PROVIDER]", help="One of them, with its models.")] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Send nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """List who can train: set up? reachable? which models and methods, until when.

    Those that are set up are sent one request that costs nothing.

    Examples: ft providers · ft providers openai · ft providers --offline --json
    """
    desk = Desk(say=say)
    found = [desk.offers.one(name, ask=not offline)] if name else desk.offers.all(ask=not offline)
    if as_json:
        views = [desk.views.offer(one) for one in found]
        out_json(views[0] if name else views)
    elif name:
        _show(found[0])
    else:
        rows = [(one.name, _set_up(one), _reached(one, offline), _models(one), _today(one)) for one in found]
        table(("PROVIDER", "SET UP", "ANSWERS", "MODELS", "TODAY"), rows, under=("MODELS", "ANSWERS"))
        say("`ft providers PROVIDER` shows its models, what is missing, and dates with their sources")


def files(
    provider: Provider = None,
    delete: Annotated[list[str] | None, typer.Option("--delete", metavar="FILE", help="Delete this file.")] = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """List the files that ft has uploaded to hosted APIs, or delete some.

    A provider that does not answer is told on stderr; the command fails when none answers, or the one asked for.
    Files of a job that still runs are needed there. `dataset.keep_upload: false` deletes them when the job has ended.

    Examples: ft files · ft files --provider openai --delete file-abc -y
    """
    desk = Desk(say=say)
    if delete:
        must(
            confirm(f"delete {', '.join(delete)} for good?", yes=yes, unasked=False),
            "nothing was deleted",
            "a deleted file cannot be brought back",
            "repeat it with -y",
        )
        gone = desk.offers.delete(delete, provider)
        if as_json:
            out_json({"deleted": gone})
        else:
            out("\n".join(f"{file_id}  deleted" for file_id in gone))
        return
    found, silent = desk.offers.files(provider)
    for error in silent:
        complain(error)
    if as_json:
        out_json([desk.views.remote_file(name, file) for name, file in found])
    elif found:
        rows = [
            (name, file.file_id, file.name, f"{file.bytes:,}", f"{file.uploaded_at:%Y-%m-%d %H:%M}")
            for name, file in found
        ]
        table(("PROVIDER", "FILE", "NAME", "BYTES", "UPLOADED"), rows)
    else:
        say("no files of ours are at any provider that is set up here and answers")


def sandbox(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="Hosted APIs, gateways; default: all hosted APIs.")
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65000, help="First port; 0: any free ones.")] = 0,
    speed: Annotated[float, typer.Option(min=0.01, help="How many times as fast as time their clocks run.")] = 1.0,
    fault: Annotated[
        list[str] | None,
        typer.Option("--fault", metavar="KIND[:OPERATION]", help="Lay a fault in the path, e.g. cut_after:create."),
    ] = None,
    fault_rate: Annotated[float, typer.Option(min=0.0, max=1.0, help="Share of requests that meet a fault.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Seed of these faults.")] = 0,
    base: Annotated[str, typer.Option(help="The base model that gateways serve.")] = "builtin:tiny-llama",
) -> None:
    """Run stand-ins for hosted APIs and gateways on this machine and print the variables that point at them.

    They are as strict as the vendors, cost nothing and need no key. Ctrl-C ends them.

    Examples: ft sandbox · ft sandbox openai --speed 60 · ft sandbox openai --fault cut_after:create · ft sandbox vllm
    """
    # `min` and `max` let nan pass, which is neither below nor above anything.
    must(math.isfinite(speed), f"--speed {speed} is no number of times", "a clock has to show a time", "--speed 60")
    must(fault_rate == fault_rate, f"--fault-rate {fault_rate} is no share", "it goes from 0 to 1", "--fault-rate 0.05")
    desk = Desk(say=say)
    how = How(port=port, speed=speed, laid=fault or (), rate=(fault_rate, seed), base=base)
    with desk.sandboxes(names or (), how) as running:
        for variable, value in running.environment.items():
            out(f"export {variable}={shlex.quote(value)}")
        out(f"unset {' '.join(running.cleared)}")
        say("copy these lines into another terminal and use ft there; Ctrl-C ends the sandbox")
        running.wait()


def _show(one: "Offer") -> None:
    out(f"{paint(one.name, 'bold')}  {one.title}")
    if one.missing:
        for problem in one.missing:
            tell(problem)
    if one.trouble:
        tell(one.trouble)
    if one.answered:
        out(f"answers: {one.answered}")
    for note in one.notes:
        tell(note)
    if one.models:
        rows = [
            (
                each.name,
                ", ".join(each.methods) or "-",
                each.usd_per_million or "not published",
                "open" if each.open and one.open else "no new jobs",
                "; ".join(each.notes),
            )
            for each in one.models
        ]
        table(("MODEL", "METHODS", "USD/M TOKENS", "TODAY", "NOTES"), rows)


def _set_up(one: "Offer") -> str:
    return "yes" if not one.missing else "no: " + one.missing[0].what


def _reached(one: "Offer", offline: bool) -> str:
    if not one.hosted:
        return "here"
    if one.missing or offline:
        return "not asked"
    return one.answered or (one.trouble.what if one.trouble else "no")


def _models(one: "Offer") -> str:
    methods = sorted({method for each in one.models for method in each.methods}, reverse=True)
    return f"{len(one.models)} by {', '.join(methods)}" if one.models else "-"


def _today(one: "Offer") -> str:
    if not one.open:
        return "no new jobs"
    return "open, on conditions" if one.notes else "open"
