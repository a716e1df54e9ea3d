"""eval, promote, rollback: from a trained version to the name that callers use, and back."""

import re
from typing import TYPE_CHECKING, Annotated, Any

import typer

from finetune.cli import exits, show
from finetune.cli.models import Ref, measured
from finetune.cli.output import confirm, must, out, out_json, paint, say
from finetune.cli.recipes import AsJson, Yes
from finetune.wiring import Desk

if TYPE_CHECKING:
    from finetune.bench import Verdict
    from finetune.versions import Promotion

_OPENAI = "https://api.openai.com/v1"
_MONEY = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,2})? USD")
_SHARE = re.compile(r"(?:0?\.[0-9]+|[0-9]{1,2}(?:\.[0-9]+)?%)")


def evaluate(
    model: Annotated[
        str, typer.Argument(metavar="MODEL|JOB", help="name@v1, name@alias, or a job's id.", show_default=False)
    ],
    suite: Annotated[
        list[str] | None, typer.Option("--suite", help="A suite's YAML file, its name in suites/, or lm-eval:TASK.")
    ] = None,
    metric: Annotated[
        list[str] | None, typer.Option("--metric", help="Of the held-out rows. Default: those that fit them.")
    ] = None,
    over: Annotated[str, typer.Option(help="What it is compared with: base, an alias, or a version.")] = "base",
    limit: Annotated[int, typer.Option(min=1, help="Rows of each suite, at most.")] = 200,
    held_out: Annotated[bool, typer.Option(help="Ask the rows that the job held out.")] = True,
    at: Annotated[
        str | None, typer.Option(metavar="URL", help="Ask it there, as a gateway serves it, e.g. http://host:8765/v1.")
    ] = None,
    judge: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Who judges, for the metric judge. It may bill.")
    ] = None,
    judge_url: Annotated[str, typer.Option(metavar="URL", help="Where the judge answers.")] = _OPENAI,
    judge_key: Annotated[str, typer.Option(metavar="VARIABLE", help="The variable with its key.")] = "OPENAI_API_KEY",
    as_json: AsJson = False,
) -> None:
    """Measure a version and its base on the same rows, with intervals.

    Results are kept with the version: `ft models show` has them, gates and proofs use them.

    Examples: ft eval support-bot@v3 · ft eval ft_6c1k2m3n4p --suite suites/manners.yaml · ft eval bot@v3 --judge gpt-4o
    """
    from finetune.measuring import Address, Wish

    desk = Desk(say=say)
    wanted = (*(metric or ()), *(("judge",) if judge and not metric and not suite else ()))
    wish = Wish(
        suites=tuple(suite or ()),
        metrics=wanted,
        over=over,
        sample_size=limit,
        held_out=held_out,
        judge=Address(url=judge_url, model=judge, key_env=judge_key) if judge else None,
    )
    version, reports = desk.measure(model, wish, at)
    verdict = desk.verdict(version, reports)
    if as_json:
        gate = None if verdict is None else {"passed": verdict.passed, "reasons": list(verdict.reasons)}
        out_json({"ref": version.ref, "reports": reports, "gate": gate})
    else:
        _show(version.ref, reports, verdict)


def _show(ref: str, reports: "list[dict[str, Any]]", verdict: "Verdict | None") -> None:
    """What was measured, and what the gate says to it."""
    out(f"{ref} beside {reports[0]['other']}, {reports[0]['n']} rows")
    measured(reports)
    for warning in (each for report in reports for each in report.get("warnings", ())):
        say(f"note: {warning}")
    if verdict is not None:
        said = paint("passed", "green") if verdict.passed else paint("closed", "red")
        out()
        out(f"its recipe's gate: {said}")
        for reason in verdict.reasons:
            out(f"  {reason}")


def promote(
    model: Ref,
    to: Annotated[str, typer.Option("--to", metavar="ALIAS", help="The alias, e.g. production.", show_default=False)],
    gateway: Annotated[
        list[str] | None, typer.Option("--gateway", help="Where it shall answer. Default: as the recipe says.")
    ] = None,
    canary: Annotated[
        str | None, typer.Option(metavar="SHARE", help="Share of the calls that it gets first: 10% or 0.1.")
    ] = None,
    pause: Annotated[float | None, typer.Option(min=0, help="Seconds that each share is kept and checked.")] = None,
    no_gate: Annotated[bool, typer.Option("--no-gate", help="Do not ask the recipe's gate.")] = False,
    over: Annotated[str | None, typer.Option(metavar="MODEL", help="What the recipe's gate compares it with.")] = None,
    max_hosting: Annotated[
        str | None,
        typer.Option(metavar="MONEY", help='What an hour of hosting may cost, where it has to be deployed: "3 USD".'),
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Stay until a canary has all calls.")] = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Move an alias to a model version: gate, register, prove, shift the calls.

    Each gateway is told of the version without giving it calls, and asked for it by its own name; only what answers
    rightly gets calls. What fails is undone. With a canary the share grows step by step, and goes back by itself.

    Examples: ft promote bot@v3 --to production · ft promote bot@v3 --to production --gateway litellm --canary 10%
    """
    from finetune.promotions import Wanted

    desk = Desk(say=say)
    chosen = desk.registry.version(model)
    wanted = Wanted(
        alias=to,
        gateways=tuple(gateway) if gateway else None,
        canary=_share(canary),
        pause_s=pause,
        gate=not no_gate,
        over=over,
        max_hosting=_money(max_hosting),
    )
    agreed = confirm(f"point {chosen.name}@{to} to {chosen.ref}?", yes=yes or as_json)
    must(agreed, "not promoted", "the question was not answered with y", "answer y, or use -y")
    before = desk.models.traffic(chosen.name, to)
    promotion = desk.carry(desk.promote(chosen.ref, wanted), wait=wait)
    if as_json:
        point = {"alias": to, "before": before.version if before else None}
        view = desk.views.model(desk.registry.version(chosen.ref))
        out_json({**view, **point, "promotion": desk.views.promotion(promotion)})
    _told(desk, promotion, quiet=as_json)


def rollback(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A model's name, without a version.", show_default=False)],
    alias: Annotated[str, typer.Option(help="The alias.")] = "production",
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Give an alias back to the version that had its calls before.

    An unfinished promotion of the alias ends. Rolled back twice it is where it was.

    Example: ft rollback support-bot
    """
    desk = Desk(say=say)
    desk.registry.versions(name)
    back = desk.releasing.back(name, alias)
    agreed = confirm(f"give all calls of {name}@{alias} back to {name}@v{back.version}?", yes=yes or as_json)
    must(agreed, "not rolled back", "the question was not answered with y", "answer y, or use -y")
    promotion = desk.carry(desk.roll_back(name, alias), wait=True)
    if as_json:
        out_json(desk.views.promotion(promotion))
    _told(desk, promotion, quiet=as_json)


def retire(model: Ref, yes: Yes = False, as_json: AsJson = False) -> None:
    """Take a version from its aliases and gateways, and end what it costs by the hour. It stays in the books.

    Callers of an alias that it had get no answer until another version is promoted.

    Example: ft models retire support-bot@v2
    """
    desk = Desk(say=say)
    one = desk.registry.version(model)
    calls = f", which has all calls of {', '.join(one.aliases)}" if one.aliases else ""
    agreed = confirm(f"retire {one.ref}{calls}?", yes=yes or as_json)
    must(agreed, "not retired", "the question was not answered with y", "answer y, or use -y")
    left = desk.retire(one.ref)
    for line in left:
        say(line)
    if as_json:
        out_json(desk.views.model(desk.registry.version(one.ref)))
    elif not left:
        out(f"{one.ref} is at no gateway and has no calls")
    if left:
        raise typer.Exit(exits.FAILED)


def _told(desk: Desk, promotion: "Promotion", *, quiet: bool) -> None:
    """How it ended, what takes it back, and the exit code."""
    if code := show.promotion(promotion):
        raise typer.Exit(code)
    if quiet:
        return
    name = f"{promotion.name}@{promotion.alias}"
    if promotion.final:
        out(f"{name} is now {promotion.ref}")
        if undo := desk.releasing.undo(promotion):
            say(f"undo: {undo}")
        return
    share = promotion.steps[promotion.step - 1]
    out(f"{promotion.ref} has {share:.0%} of the calls of {name}")
    at = f"{promotion.due_at.astimezone():%H:%M:%S}" if promotion.due_at else "now"
    say(f"next: {promotion.steps[promotion.step]:.0%} at {at}, by the workers of `ft up`; `--wait` stays until the end")
    say(
        f"back: ft rollback {promotion.name}"
        + ("" if promotion.alias == "production" else f" --alias {promotion.alias}")
    )


def _money(text: str | None) -> str | None:
    must(
        text is None or bool(_MONEY.fullmatch(text)),
        f"--max-hosting {text} is no amount",
        "US dollars an hour",
        'write "3 USD"',
    )
    return text


def _share(text: str | None) -> float | None:
    if text is None:
        return None
    must(bool(_SHARE.fullmatch(text)), f"--canary {text} is no share", "it is above 0 and below 1", "write 10% or 0.1")
    share = float(text.removesuffix("%")) / 100 if text.endswith("%") else float(text)
    must(0 < share < 1, f"--canary {text} is no share", "it is above 0 and below 1", "write 10% or 0.1")
    return share
