"""models, promote, chat: what is about tuned models."""

import sys
from typing import Annotated

import typer

from finetune.cli.output import confirm, must, out, out_json, paint, say, table
from finetune.cli.recipes import AsJson, Yes
from finetune.wiring import Desk

app = typer.Typer(help="List and show tuned models.", no_args_is_help=True, rich_markup_mode=None)

Ref = Annotated[
    str, typer.Argument(metavar="MODEL", help="name@v1, name@alias, or name for its production.", show_default=False)
]


@app.command("list")
def list_models(as_json: AsJson = False) -> None:
    """List all versions with their aliases.

    Example: ft models list
    """
    desk = Desk()
    models = desk.registry.versions()
    if as_json:
        out_json([desk.views.model(one) for one in models])
    elif models:
        rows = [
            (
                one.ref,
                ", ".join(one.aliases),
                f"{one.provider}/{one.base_model}",
                one.job_id,
                f"{one.created_at:%Y-%m-%d}",
            )
            for one in models
        ]
        table(("MODEL", "ALIASES", "TARGET", "JOB", "DATE"), rows)
    else:
        say("no models yet: a job that succeeds leaves one")


@app.command("show")
def show(model: Ref, as_json: AsJson = False) -> None:
    """Show one version: where its artifact is and what it was made from.

    Example: ft models show support-bot@v3
    """
    desk = Desk()
    view = desk.views.model(desk.registry.version(model))
    if as_json:
        out_json(view)
        return
    for label, value in view.items():
        lines = value.items() if isinstance(value, dict) else [("", value)]
        for key, each in lines:
            text = ", ".join(each) if isinstance(each, list) else each
            out(f"{paint('.'.join(filter(None, (label, key))).ljust(24), 'dim')}  {text}")


def promote(
    model: Ref,
    to: Annotated[str, typer.Option("--to", metavar="ALIAS", help="The alias, e.g. production.", show_default=False)],
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Point an alias to a model version.

    Callers of the alias get it from their next request on.

    Example: ft promote support-bot@v3 --to production
    """
    desk = Desk()
    chosen = desk.registry.version(model)
    agreed = confirm(f"point {chosen.name}@{to} to {chosen.ref}?", yes=yes or as_json)
    must(agreed, "not promoted", "the question was not answered with y", "answer y, or use -y")
    chosen, before = desk.registry.promote(chosen.ref, to)
    if as_json:
        out_json({**desk.views.model(chosen), "alias": to, "before": before})
        return
    out(f"{chosen.name}@{to} is now {chosen.ref}")
    if before not in (None, chosen.version):
        say(f"undo: ft promote {chosen.name}@v{before} --to {to}")


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
