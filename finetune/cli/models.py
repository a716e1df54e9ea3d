"""models, chat: what is about tuned models."""

import sys
from typing import Annotated, Any

import typer

from finetune.cli.exits import FAILED
from finetune.cli.output import must, out, out_json, paint, say, table
from finetune.cli.recipes import AsJson
from finetune.wiring import Desk

app = typer.Typer(help="List and show tuned models.", no_args_is_help=True, rich_markup_mode=None)

#: Characters of a value in a table.
_WIDEST = 40

Ref = Annotated[
    str, typer.Argument(metavar="MODEL", help="name@v1, name@alias, or name for its production.", show_default=False)
]


@app.command("list")
def list_models(as_json: AsJson = False) -> None:
    """List all versions: how far each has come, its aliases, what was measured.

    Example: ft models list
    """
    desk = Desk()
    models = desk.registry.versions()
    if as_json:
        out_json([desk.views.model(one) for one in models])
    elif models:
        measured = desk.releasing.headlines(models)
        rows = [
            (
                one.ref,
                str(one.status),
                ", ".join(one.aliases),
                measured.get(one.ref, ""),
                f"{one.provider}/{one.base_model}",
                one.job_id,
                f"{one.created_at:%Y-%m-%d}",
            )
            for one in models
        ]
        table(("MODEL", "STATUS", "ALIASES", "MEASURED", "TARGET", "JOB", "DATE"), rows)
    else:
        say("no models yet: a job that succeeds leaves one")


@app.command("show")
def show(model: Ref, as_json: AsJson = False) -> None:
    """Show one version: its artifact, what was measured, who calls it, how it got there.

    Example: ft models show support-bot@v3
    """
    desk = Desk()
    one = desk.registry.version(model)
    view, card = desk.views.model(one), desk.views.card(desk.releasing.card(one))
    if as_json:
        out_json({**view, **card})
        return
    fields(view)
    measured(card["reports"])
    for each in card["traffic"]:
        out(f"{paint('calls'.ljust(24), 'dim')}  {each['share']:.0%} of {each['alias']}, since {each['since'][:16]}")
    for each in card["promotions"]:
        out()
        out(f"{paint('promotion'.ljust(24), 'dim')}  {each['id']} to {each['alias']}: {each['state']}")
        for note in each["notes"]:
            out(f"  {note['at'][:19].replace('T', ' ')}  {note['text']}")


@app.command("lineage")
def lineage(model: Ref, as_json: AsJson = False) -> None:
    """Show what one version was made from: recipe, data, base, job, cost, code.

    Example: ft models lineage support-bot@v3
    """
    desk = Desk()
    found = desk.views.plain(desk.releasing.lineage(desk.registry.version(model)))
    if as_json:
        out_json(found)
        return
    fields(found)


@app.command("diff")
def diff(one: Ref, other: Ref, as_json: AsJson = False) -> None:
    """Show what differs between two versions: recipe, data, code, and what was measured.

    Example: ft models diff support-bot@v2 support-bot@v3
    """
    desk = Desk()
    first, second = desk.registry.version(one), desk.registry.version(other)
    found = desk.views.plain(desk.releasing.diff(first, second))
    if as_json:
        out_json([{"field": name, first.ref: was, second.ref: is_} for name, was, is_ in found])
    elif found:
        rows = [(name, _short(was), _short(is_)) for name, was, is_ in found]
        table(("FIELD", first.ref, second.ref), rows)
    else:
        say(f"{first.ref} and {second.ref} differ in nothing that is recorded")


@app.command("history")
def history(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A model's name, without a version.", show_default=False)],
    alias: Annotated[str | None, typer.Option(help="Of this alias only.", show_default=False)] = None,
    as_json: AsJson = False,
) -> None:
    """Show who had the calls of a model's aliases, newest first.

    Example: ft models history support-bot
    """
    desk = Desk()
    desk.registry.versions(name)
    moves = desk.models.moves(name, alias)
    if as_json:
        out_json([desk.views.traffic(one) for one in moves])
        return
    rows = [
        (
            f"{one.at.astimezone():%Y-%m-%d %H:%M:%S}",
            one.alias,
            ", ".join(f"v{version} {share:.0%}" for version, share in one.shares.items()) or "nobody",
            one.reason,
            one.by,
        )
        for one in moves
    ]
    if rows:
        table(("SINCE", "ALIAS", "CALLS", "WHY", "BY"), rows)
    else:
        say(f"no alias of {name} has ever had calls: `ft promote {name}@v1 --to production`")


@app.command("sync")
def sync(
    gateway: Annotated[
        list[str] | None, typer.Option("--gateway", help="Look there too. Default: where we have placed anything.")
    ] = None,
    forget: Annotated[
        list[str] | None,
        typer.Option("--forget", metavar="GATEWAY", help="Only take this gateway out of our books. Sends nothing."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what differs.")] = False,
    as_json: AsJson = False,
) -> None:
    """Compare what gateways have with what they should have, and mend it.

    Adapters that a restart has forgotten are loaded again, calls are divided as they should be, and what carries our
    marks and is in none of our books is taken away. Nothing else is touched. With FT_ARTIFACTS, adapters that are on
    this machine alone are uploaded. A gateway that is no more stays in our books until it is forgotten.

    Examples: ft models sync --dry-run · ft models sync --forget litellm
    """
    desk = Desk()
    if forget:
        why, fix = "what is forgotten is looked at no more", "leave one of them out"
        must(not gateway, "--forget and --gateway do not go together", why, fix)
        _forget(desk, forget, dry_run=dry_run, as_json=as_json)
        return
    for ref, address in () if dry_run else desk.upload_late():
        say(f"{ref} is at {address}")
    drifts = desk.sync.look(gateway or ())
    done = drifts if dry_run else desk.sync.mend(drifts)
    if as_json:
        out_json([desk.views.drift(one) for one in (drifts if dry_run else done)])
    for one in drifts if not as_json else ():
        mended = any(one.gateway == each.gateway and one.id == each.id for each in done) and not dry_run
        out(f"{one.gateway}: {one.what}{f' ({one.id})' if one.id else ''}{', mended' if mended else ''}")
    left = [one for one in drifts if one.kind == "unreachable"]
    if not drifts and not as_json:
        say("nothing differs")
    if left or (dry_run and drifts):
        raise typer.Exit(FAILED)


def _forget(desk: Desk, gateways: list[str], *, dry_run: bool, as_json: bool) -> None:
    done = [one for name in gateways for one in desk.sync.drop(name, dry_run=dry_run)]
    if as_json:
        out_json([desk.views.drift(one) for one in done])
        return
    for one in done:
        out(f"{one.gateway}: {one.what} ({one.id})")
    for name in gateways:
        if not any(one.gateway == name for one in done):
            say(f"{name}: nothing of it is in our books")
        elif not desk.places.why_not(name) and desk.places.hosts(name):
            say(f"{name} bills what is deployed there by the hour: see that it is gone, in its own console")


def chat(
    model: Ref,
    prompt: Annotated[str | None, typer.Argument(help="One question; without it, a conversation.")] = None,
    system: Annotated[str | None, typer.Option(help="A system message.")] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="The longest answer, in tokens.")] = 512,
    temperature: Annotated[float, typer.Option(min=0, max=2, help="0 always gives the same answer.")] = 0.0,
) -> None:
    """Talk to a tuned model on this machine.

    The base models under tuned ones answer too. A prompt may also come through a pipe.

    Examples: ft chat quickstart@v1 "Where is my order?" · echo hello | ft chat quickstart@v1
    """
    if prompt is None and not sys.stdin.isatty():
        prompt = sys.stdin.read().strip()
        must(bool(prompt), "there is no prompt", "the pipe was empty", 'ft chat MODEL "your question"')
    talk = Desk(say=say).chat(model)
    messages = [{"role": "system", "content": system}] if system else []
    if prompt is None:
        say("ask away; an empty line or Ctrl-D ends it")
    while question := prompt if prompt is not None else _ask():
        messages.append({"role": "user", "content": question})
        answer = ""
        for piece in talk.stream(messages, max_tokens=max_tokens, temperature=temperature, seed=None):
            answer += piece
            sys.stdout.write(piece)
            sys.stdout.flush()
        out()
        messages.append({"role": "assistant", "content": answer})
        if prompt is not None:
            return


def _ask() -> str:
    """The next question; empty at the end of the input, at an empty line and at Ctrl-C."""
    sys.stderr.write(paint("you> ", "cyan", sys.stderr))
    sys.stderr.flush()
    try:
        line = sys.stdin.readline()
    except KeyboardInterrupt:
        say()
        return ""
    return line.strip()


def fields(view: dict[str, Any], prefix: str = "") -> None:
    """Names and values, a line each."""
    for label, value in view.items():
        name = f"{prefix}{label}"
        if isinstance(value, dict):
            fields(value, f"{name}.")
        else:
            text = ", ".join(map(str, value)) if isinstance(value, list) else value
            out(f"{paint(name.ljust(24), 'dim')}  {text}")


def measured(reports: list[dict[str, Any]]) -> None:
    """What was measured, as a table. Intervals are of 95 %."""
    rows = [
        (
            report["suite"],
            each["metric"],
            f"{each['other']['value']:.3f}",
            f"{each['tuned']['value']:.3f}",
            f"{each['gain']['value']:+.3f} [{each['gain']['low']:+.3f}, {each['gain']['high']:+.3f}]",
            str(each["tuned"]["n"]),
        )
        for report in reports
        for each in report.get("outcomes", ())
    ]
    if rows:
        out()
        table(("SUITE", "METRIC", reports[0]["other"].upper(), "TUNED", "GAIN [95 %]", "ROWS"), rows)


def _short(value: Any) -> str:
    text = "" if value is None else str(value)
    return text if len(text) <= _WIDEST else f"{text[: _WIDEST - 1]}…"
