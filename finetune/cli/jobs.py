"""submit, status, watch, logs, wait, cancel: what is about jobs."""

from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from finetune.cli import exits, show
from finetune.cli.output import confirm, must, out, out_json, say, table, tell
from finetune.cli.reading import Reading
from finetune.cli.recipes import AsJson, Overrides, Recipes, Yes
from finetune.errors import FtError, NotEligible, Problem, UsageError, WaitTimeout
from finetune.wiring import Desk

if TYPE_CHECKING:
    from finetune.jobs import Job
    from finetune.submission import Ready, Submission
    from finetune.traces import Scope

JobId = Annotated[str, typer.Argument(metavar="JOB", help="A job's id, or the beginning of it.", show_default=False)]
#: About thirty years; more than enough, and every clock can count so far.
_LONGEST_S = 10**9
#: What `wait --for` waits for beyond a job's end, and the state of its promotion that this is.
_GOALS = {"verified": "shifting", "live": "live"}
#: How long Ctrl-C waits for jobs against stand-ins to be cancelled.
_ENDING = timedelta(seconds=10)
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Print ids only.")]


def submit(
    recipes: Recipes,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Stay until the jobs have ended.")] = False,
    overrides: Overrides = None,
    force: Annotated[bool, typer.Option("--force", help="Train again what was trained before.")] = False,
    sandbox: Annotated[
        bool, typer.Option("--sandbox", help="Against stand-ins, without a key or a bill; stays to the end.")
    ] = False,
    yes: Yes = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Check recipes, plan them, queue them as jobs.

    Submitting the same recipe, data and target again answers with the same job. What bills is asked about first, unless
    the recipe has limits.max_cost.

    Examples: ft submit recipe.yaml --follow · ft submit recipes/*.yaml --set lora.r=32 · ft submit r.yaml --sandbox
    """
    from finetune import traces

    shown = Shown(follow=follow or sandbox, as_json=as_json, quiet=quiet, rehearsed=sandbox)
    with Desk(say=say).rehearsing() if sandbox else nullcontext(), traces.running(say):
        _submit(recipes, overrides or [], shown, force=force, yes=yes)


@dataclass(frozen=True, kw_only=True)
class Shown:
    """How a user wants to see what becomes of the jobs."""

    follow: bool
    as_json: bool
    quiet: bool
    #: What trains again what was trained before.
    again: str = "--force trains again"
    #: Their stand-ins end with this command, so nothing may go on after it.
    rehearsed: bool


def _submit(recipes: list[Path], overrides: list[str], shown: Shown, *, force: bool, yes: bool) -> None:
    from finetune.traces import Scope

    # All recipes are read before the first is submitted: a fault in the last must not leave half of them queued.
    begun = [Scope("ft submit") for _ in recipes]
    with Reading(quiet=shown.quiet) as reading:
        desk = Desk(say=say, reading=reading.show)
        ready = [_ready(desk, path, overrides, scope) for path, scope in zip(recipes, begun, strict=True)]
    send(desk, ready, begun, shown, force=force, yes=yes)


def send(desk: Desk, ready: "list[Ready]", begun: "list[Scope]", shown: Shown, *, force: bool, yes: bool) -> None:
    """Ask about what bills, queue it, and show what becomes of it. Raises what `allow` raises, and typer.Exit."""
    for each in ready:
        for warning in (*each.file.notes, *each.plan.warnings, *desk.untold(each), *each.data.warnings):
            tell(warning)
    for each in ready:
        _approve(desk, each, force=force, yes=yes)
    made = [_made(desk, each, scope, force=force) for each, scope in zip(ready, begun, strict=True)]
    if not shown.quiet:
        for one in made:
            _tell_plan(one, shown.again)
    if not shown.follow:
        _print_submitted(desk, made, as_json=shown.as_json, quiet=shown.quiet)
        return
    try:
        raise typer.Exit(_stay(desk, made, shown))
    finally:
        if shown.rehearsed:
            desk.helpers.end()


def _ready(desk: Desk, path: Path, overrides: list[str], begun: "Scope") -> "Ready":
    from finetune.traces import span

    with begun:
        with span("read recipe"):
            file = desk.read(path, overrides)
        return desk.submitter.ready(file)


def _made(desk: Desk, ready: "Ready", begun: "Scope", *, force: bool) -> "Submission":
    with begun:
        made = desk.submitter.submit(ready, force=force)
    begun.end()
    return made


def _stay(desk: Desk, made: "list[Submission]", shown: Shown) -> int:
    """Show the jobs until they have ended; returns the exit code."""
    if shown.quiet and not shown.as_json:
        for one in made:
            out(one.job.id)
    codes = [_follow(desk, one, shown) for one in made]
    if shown.as_json:
        _print_json(desk, made)
    return max(codes)


def _approve(desk: Desk, ready: "Ready", *, force: bool, yes: bool) -> None:
    """Say what it costs and ask. Raises what `allow` raises."""
    cost, target = ready.plan.cost, ready.plan.target
    price = show.price(cost) if cost else ""
    if cost:
        say(f"cost: {ready.file.recipe.name} on {target}: {price}")
    allow(desk, ready.plan.provider, target, price, asks=desk.submitter.asks(ready, force=force), yes=yes)


def allow(desk: Desk, provider: str, target: str, price: str, *, asks: bool, yes: bool) -> None:
    """Let a job start that bills; `asks` says whether somebody must be asked.

    Raises NotEligible (E313) when nobody allows it, UsageError (E906) in a sandbox without a stand-in for it.
    """
    stand_ins = desk.settings.sandbox
    if stand_ins and provider not in stand_ins and desk.submitter.hosted(provider):
        what, why = f"{target} would bill", f"this is a sandbox, with stand-ins for {', '.join(sorted(stand_ins))} only"
        fix = "leave --sandbox out, or unset FT_SANDBOX and FT_HOME, to train there"
        raise UsageError(Problem(code="E906", what=what, why=why, fix=fix))
    if stand_ins or not asks or confirm(f"start it at {target}?", yes=yes, unasked=False):
        return
    raise NotEligible(
        Problem(
            code="E313",
            what=f"nobody has allowed a job that bills at {target}",
            why=f"it costs {price}, and the recipe has no limits.max_cost",
            fix="repeat it with -y, or write `limits: {max_cost: ... USD}` into the recipe",
        )
    )


def status(
    job: Annotated[str | None, typer.Argument(metavar="[JOB]", help="One job; default: the newest.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many jobs to list.")] = 20,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Show one job, or list the newest.

    Examples: ft status · ft status ft_6c1 --json
    """
    desk = Desk(say=say)
    if job is not None:
        found = desk.service.job(job)
        if as_json:
            out_json(desk.views.job(found))
        elif quiet:
            out(found.id)
        else:
            show.one(found)
            if not found.final:
                desk.lookout.look()
        return
    jobs = desk.service.recent(limit)
    if as_json:
        out_json([desk.views.job(one) for one in jobs])
    elif quiet:
        for one in jobs:
            out(one.id)
    elif jobs:
        now = datetime.now(UTC)
        table(("JOB", "STATE", "NAME", "TARGET", "AGE", "PROGRESS"), [show.row(one, now) for one in jobs])
    else:
        say("no jobs yet: `ft init` writes a recipe, `ft submit recipe.yaml --follow` runs it")


def watch(job: JobId) -> None:
    """Show a job's events and progress until it ends. Ctrl-C stops looking, not the job.

    Example: ft watch ft_6c1
    """
    desk = Desk(say=say)
    found = desk.service.job(job)
    raise typer.Exit(_watch(desk, found.id, to_stderr=False))


def logs(
    job: JobId,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on until the job ends.")] = False,
    as_json: AsJson = False,
) -> None:
    """Print a job's history.

    States, the provider's words, warnings and errors, with their times.

    Examples: ft logs ft_6c1 · ft logs ft_6c1 -f · ft logs ft_6c1 --json
    """
    from finetune.cli.progress import event_line

    desk = Desk(say=say)
    never = "one JSON document cannot grow"
    must(not (follow and as_json), "--follow and --json do not go together", never, "`ft logs JOB --json` at the end")
    if as_json:
        history = [desk.views.event(one) for one in desk.service.events(job)]
        measured = [desk.views.metric(one) for one in desk.service.metrics(job)]
        out_json({"events": history, "metrics": measured})
    elif follow:
        try:
            for update in desk.service.follow(job, each=desk.lookout.look):
                for event in update.events:
                    out(event_line(event))
        except KeyboardInterrupt:
            raise _detached(job) from None
    else:
        for event in desk.service.events(job):
            out(event_line(event))


def wait(
    jobs: Annotated[list[str], typer.Argument(metavar="JOB...", help="Job ids.", show_default=False)],
    timeout: Annotated[float | None, typer.Option(help="Seconds; default: no end.")] = None,
    goal: Annotated[
        str, typer.Option("--for", metavar="STATE", help="succeeded, or verified or live: then for promotions too.")
    ] = "succeeded",
    as_json: AsJson = False,
) -> None:
    """Block until jobs have ended. Exits with 0 only if every one succeeded.

    With `--for live` also until the recipes' promotions have ended; with `--for verified` until they are proved.

    Examples: ft wait $(ft submit recipes/*.yaml -q) --timeout 3600 · ft wait ft_6c1 --for live
    """
    known = ", ".join(("succeeded", *_GOALS))
    must(
        goal == "succeeded" or goal in _GOALS, f"--for {goal} is no state to wait for", f"there are {known}", "use one"
    )
    desk = Desk(say=say)
    # Also refuses nan, which is neither below nor above any bound.
    possible = timeout is None or 0 <= timeout <= _LONGEST_S
    must(possible, f"--timeout {timeout} is no time", f"a wait has up to {_LONGEST_S:,} seconds", "leave it out")
    limit = None if timeout is None else timedelta(seconds=timeout)
    until = None if limit is None else desk.clock.now() + limit
    try:
        ended = desk.service.wait(jobs, timeout=limit, each=desk.lookout.look)
        promoted = [_promoted(desk, one, goal, until) for one in ended] if goal in _GOALS else []
    except KeyboardInterrupt:
        raise _detached(jobs[0]) from None
    if as_json:
        out_json([desk.views.job(one) for one in ended])
    else:
        for one in ended:
            show.end(one)
    raise typer.Exit(max([*(exits.OF_STATE[one.state] for one in ended), *promoted]))


def _promoted(desk: Desk, job: "Job", goal: str, until: "datetime | None") -> int:
    """Wait for what the job's recipe promotes; the exit code. Nothing to wait for is an error: it would never come."""
    if not job.model:
        return exits.OK
    promotion = desk.releasing.wait(job.model, _GOALS[goal], until=until, each=desk.lookout.look)
    why, fix = "its recipe has no gateways and no gate under `register`", f"`ft promote {job.model} --to production`"
    must(promotion is not None, f"nothing promotes {job.model}", why, fix)
    assert promotion is not None
    return show.promotion(promotion)


def cancel(job: JobId, yes: Yes = False, as_json: AsJson = False) -> None:
    """Ask for the end of a job. Silent if it has ended.

    Examples: ft cancel ft_6c1 · ft cancel ft_6c1 -y
    """
    desk = Desk(say=say)
    found = desk.service.job(job)
    if not found.final and confirm(f"cancel {found.id} ({found.name}, {found.state})?", yes=yes or as_json):
        found = desk.service.cancel(found.id)
        desk.lookout.look()
    if as_json:
        out_json(desk.views.job(found))
    elif found.final:
        out(f"{found.id} has ended already: {found.state}")
    elif found.cancel_requested:
        out(f"{found.id}: cancel requested")
        say(f"`ft wait {found.id}` returns when nothing of it runs any more")
    else:
        out(f"{found.id}: left as it is")


def _follow(desk: Desk, one: "Submission", shown: Shown) -> int:
    code = _watch(desk, one.job.id, to_stderr=True, rehearsed=shown.rehearsed)
    job = desk.service.job(one.job.id)
    if not (shown.as_json or shown.quiet):
        show.end(job)
        if job.model and desk.can_answer(job.model):
            _compare(desk, job)
        if job.model and desk.releasing.promotions(job.model):
            say(f"\nits promotion has begun: `ft wait {job.id} --for live`, `ft models show {job.model}`")
    return code


def _compare(desk: Desk, job: "Job") -> None:
    say("asking the base model and the tuned one about rows that training has not seen ...")
    try:
        found = desk.compare(job)
    except FtError as error:
        # The training has succeeded, whatever stands against the comparison.
        for problem in error.problems:
            tell(replace(problem, level="warning"))
        return
    if found is not None:
        show.comparison(found, job.model or "")


def _watch(desk: Desk, job_id: str, *, to_stderr: bool, rehearsed: bool = False) -> int:
    from finetune.cli.progress import display, follow

    # `submit --follow` without a broker brings its own workers; everybody else is told when there are none.
    brings = to_stderr and desk.settings.embedded
    each = partial(desk.helpers.ensure, bound=rehearsed) if brings else desk.lookout.look
    try:
        updates = desk.service.follow(job_id, each=each, waits_for=desk.board.waits_for)
        job = follow(updates, display(to_stderr=to_stderr))
    except KeyboardInterrupt:
        raise (_given_up(desk) if rehearsed else _detached(job_id)) from None
    return exits.OF_STATE[job.state] if job else exits.FAILED


def _detached(job_id: str) -> typer.Exit:
    say(f"\ndetached: {job_id} goes on; `ft watch {job_id}` looks again, `ft cancel {job_id}` ends it")
    return typer.Exit(exits.DETACHED)


def _given_up(desk: Desk) -> typer.Exit:
    """End what is left in the sandbox as long as its stand-ins are there to say that it has ended."""
    say("\nstopped: the stand-ins end with this command, so the job is cancelled")
    left = [job.id for job in desk.service.recent(None) if not job.final]
    for job_id in left:
        desk.service.cancel(job_id)
    with suppress(WaitTimeout):
        desk.service.wait(left, timeout=_ENDING)
    return typer.Exit(exits.DETACHED)


def _print_submitted(desk: Desk, made: "list[Submission]", *, as_json: bool, quiet: bool) -> None:
    if as_json:
        _print_json(desk, made)
        return
    for one in made:
        out(one.job.id if quiet else f"{one.job.id}  {one.job.state}  {one.job.name}  {one.job.target}")
    if not quiet:
        desk.lookout.look()
        say(f"next: `ft watch {made[0].job.id}`")


def _print_json(desk: Desk, made: "list[Submission]") -> None:
    """One document, also for several recipes: the jobs as they are now."""
    views = [{**desk.views.job(desk.service.job(one.job.id)), "created": one.created} for one in made]
    out_json(views if len(views) > 1 else views[0])


def _tell_plan(one: "Submission", again: str) -> None:
    if not one.created:
        say(f"{one.job.id} is the same recipe, data and target ({one.job.state}); {again}")
        return
    plan = one.plan
    held = f", {plan.validation_rows} held out" if plan.validation_rows else ""
    length = f"{plan.steps} steps" if plan.steps else f"{plan.epochs} epochs"
    say(f"plan: {one.job.name} on {plan.target}, {plan.train_rows} rows{held}, {length}")
