"""submit, status, watch, logs, wait, cancel: what is about jobs."""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from finetune.cli import exits
from finetune.cli.output import confirm, must, out, out_json, paint, say, table, tell
from finetune.cli.recipes import AsJson, Overrides, Recipes, Yes
from finetune.wiring import Parts

if TYPE_CHECKING:
    from finetune.jobs import Job
    from finetune.submission import Submission

JobId = Annotated[str, typer.Argument(metavar="JOB", help="A job's id, or the beginning of it.", show_default=False)]
#: About thirty years; more than enough, and every clock can count so far.
_LONGEST_S = 10**9
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Print ids only.")]


def submit(
    recipes: Recipes,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Stay until the jobs have ended.")] = False,
    overrides: Overrides = None,
    force: Annotated[bool, typer.Option("--force", help="Train again what was trained before.")] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Check recipes, plan them, queue them as jobs.

    Submitting the same recipe, data and target again answers with the same job.

    Examples: ft submit recipe.yaml --follow · ft submit recipes/*.yaml --set lora.r=32 · ft submit recipe.yaml -q
    """
    parts = Parts(say=say)
    # All recipes are read before the first is submitted: a fault in the last must not leave half of them queued.
    files = [parts.read(path, overrides or ()) for path in recipes]
    for file in files:
        _, warnings = parts.submitter.check(file)
        for warning in (*file.notes, *warnings):
            tell(warning)
    made = [parts.submitter.submit(file, force=force) for file in files]
    if not quiet:
        for one in made:
            _tell_plan(one)
    if not follow:
        _print_submitted(parts, made, as_json=as_json, quiet=quiet)
        return
    if quiet and not as_json:
        for one in made:
            out(one.job.id)
    codes = [_follow(parts, one, silent=as_json or quiet) for one in made]
    if as_json:
        _print_json(parts, made)
    raise typer.Exit(max(codes))


def status(
    job: Annotated[str | None, typer.Argument(metavar="[JOB]", help="One job; default: the newest.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many jobs to list.")] = 20,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Show one job, or list the newest.

    Examples: ft status · ft status ft_6c1 --json
    """
    parts = Parts()
    if job is not None:
        _print_job(parts, parts.service.job(job), as_json=as_json, quiet=quiet)
        return
    jobs = parts.service.recent(limit)
    if as_json:
        out_json([parts.views.job(one) for one in jobs])
    elif quiet:
        for one in jobs:
            out(one.id)
    elif jobs:
        now = datetime.now(UTC)
        table(("JOB", "STATE", "NAME", "TARGET", "AGE", "PROGRESS"), [_row(one, now) for one in jobs])
    else:
        say("no jobs yet: `ft init` writes a recipe, `ft submit recipe.yaml --follow` runs it")


def watch(job: JobId) -> None:
    """Show a job's events and progress until it ends. Ctrl-C stops looking, not the job.

    Example: ft watch ft_6c1
    """
    parts = Parts()
    found = parts.service.job(job)
    _warn_unattended(parts, found)
    raise typer.Exit(_watch(parts, found.id, to_stderr=False))


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

    parts = Parts()
    never = "one JSON document cannot grow"
    must(not (follow and as_json), "--follow and --json do not go together", never, "`ft logs JOB --json` at the end")
    if as_json:
        history = [parts.views.event(one) for one in parts.service.events(job)]
        measured = [parts.views.metric(one) for one in parts.service.metrics(job)]
        out_json({"events": history, "metrics": measured})
    elif follow:
        try:
            for update in parts.service.follow(job):
                for event in update.events:
                    out(event_line(event))
        except KeyboardInterrupt:
            raise _detached(job) from None
    else:
        for event in parts.service.events(job):
            out(event_line(event))


def wait(
    jobs: Annotated[list[str], typer.Argument(metavar="JOB...", help="Job ids.", show_default=False)],
    timeout: Annotated[float | None, typer.Option(help="Seconds; default: no end.")] = None,
    as_json: AsJson = False,
) -> None:
    """Block until jobs have ended. Exits with 0 only if every one succeeded.

    Example: ft wait $(ft submit recipes/*.yaml -q) --timeout 3600
    """
    parts = Parts()
    # Also refuses nan, which is neither below nor above any bound.
    possible = timeout is None or 0 <= timeout <= _LONGEST_S
    must(possible, f"--timeout {timeout} is no time", f"a wait has up to {_LONGEST_S:,} seconds", "leave it out")
    limit = None if timeout is None else timedelta(seconds=timeout)
    try:
        ended = parts.service.wait(jobs, timeout=limit)
    except KeyboardInterrupt:
        raise _detached(jobs[0]) from None
    if as_json:
        out_json([parts.views.job(one) for one in ended])
    else:
        for one in ended:
            _print_end(one)
    raise typer.Exit(max(exits.OF_STATE[one.state] for one in ended))


def cancel(job: JobId, yes: Yes = False, as_json: AsJson = False) -> None:
    """Ask for the end of a job. Silent if it has ended.

    Examples: ft cancel ft_6c1 · ft cancel ft_6c1 -y
    """
    parts = Parts()
    found = parts.service.job(job)
    if not found.final and confirm(f"cancel {found.id} ({found.name}, {found.state})?", yes=yes or as_json):
        found = parts.service.cancel(found.id)
        _warn_unattended(parts, found)
    if as_json:
        out_json(parts.views.job(found))
    elif found.final:
        out(f"{found.id} has ended already: {found.state}")
    else:
        asked = "cancel requested" if found.cancel_requested else "left as it is"
        out(f"{found.id}: {asked}")
        say(f"`ft wait {found.id}` returns when nothing of it runs any more")


def _follow(parts: Parts, one: "Submission", *, silent: bool) -> int:
    code = _watch(parts, one.job.id, to_stderr=True)
    job = parts.service.job(one.job.id)
    if not silent:
        _print_end(job)
        if job.model and parts.can_answer(job.model):
            _compare(parts, job)
    return code


def _watch(parts: Parts, job_id: str, *, to_stderr: bool) -> int:
    from finetune.cli.progress import display, follow

    helpers = parts.helpers if to_stderr and parts.settings.embedded else None
    try:
        job = follow(
            parts.service.follow(job_id, each=helpers.ensure if helpers else None), display(to_stderr=to_stderr)
        )
    except KeyboardInterrupt:
        raise _detached(job_id) from None
    return exits.OF_STATE[job.state] if job else exits.FAILED


def _detached(job_id: str) -> typer.Exit:
    say(f"\ndetached: {job_id} goes on; `ft watch {job_id}` looks again, `ft cancel {job_id}` ends it")
    return typer.Exit(exits.DETACHED)


def _print_submitted(parts: Parts, made: "list[Submission]", *, as_json: bool, quiet: bool) -> None:
    if as_json:
        _print_json(parts, made)
        return
    for one in made:
        out(one.job.id if quiet else f"{one.job.id}  {one.job.state}  {one.job.name}  {one.job.target}")
    if not quiet:
        _warn_unattended(parts, made[0].job)
        say(f"next: `ft watch {made[0].job.id}`")


def _print_json(parts: Parts, made: "list[Submission]") -> None:
    """One document, also for several recipes: the jobs as they are now."""
    views = [{**parts.views.job(parts.service.job(one.job.id)), "created": one.created} for one in made]
    out_json(views if len(views) > 1 else views[0])


def _tell_plan(one: "Submission") -> None:
    if not one.created:
        say(f"{one.job.id} is the same recipe, data and target ({one.job.state}); --force trains again")
        return
    plan = one.plan
    held = f", {plan.validation_rows} held out" if plan.validation_rows else ""
    say(f"plan: {one.job.name} on {plan.target}, {plan.train_rows} rows{held}, {plan.steps} steps")


def _warn_unattended(parts: Parts, job: "Job") -> None:
    """A job that nobody works on waits for ever; say so."""
    idle = set() if job.final else parts.unserved()
    if idle:
        names = " and ".join(sorted(idle))
        say(f"no worker serves the {names} queue: start one with `ft up` (or `ft worker`), or submit with --follow")


def _print_job(parts: Parts, job: "Job", *, as_json: bool, quiet: bool) -> None:
    if as_json:
        out_json(parts.views.job(job))
        return
    if quiet:
        out(f"{job.state}")
        return
    from finetune.cli.progress import progress_text

    words = f" ({job.provider_state})" if job.provider_state not in (None, str(job.state)) else ""
    rows = [("job", job.id), ("name", job.name), ("target", job.target), ("state", f"{job.state}{words}")]
    rows += [("progress", progress_text(job.progress))] if job.progress else []
    rows += [("model", job.model)] if job.model else []
    rows += [("submitted", f"{job.created_at.astimezone():%Y-%m-%d %H:%M:%S} by {job.owner}")]
    for label, text in rows:
        out(f"{paint(label.ljust(9), 'dim')}  {text}")
    if job.error:
        _print_error(job)
    _warn_unattended(parts, job)


def _print_end(job: "Job") -> None:
    model = f"  {job.model}" if job.model else ""
    out(f"{job.id}  {paint(job.state, {'succeeded': 'green', 'failed': 'red'}.get(job.state, 'yellow'))}{model}")
    if job.error:
        _print_error(job)


def _print_error(job: "Job") -> None:
    error = job.error or {}
    say(paint(f"error {error['code']}: {error['what']}", "red"))
    say(f"  why: {error['why'] or 'see `ft logs ' + job.id + '`'}")
    say(f"  fix: {error['fix'] or '`ft explain ' + error['code'] + '`'}")


def _row(job: "Job", now: datetime) -> tuple[str, ...]:
    progress = job.progress or {}
    done = f"{progress['step']}/{progress['total_steps']}" if progress else ""
    return (job.id, str(job.state), job.name, job.target, _age(now - job.created_at), job.model or done)


def _age(age: timedelta) -> str:
    seconds = max(0, int(age.total_seconds()))
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def _compare(parts: Parts, job: "Job") -> None:
    say("asking the base model and the tuned one about rows that training has not seen ...")
    found = parts.compare(job)
    if found is None:
        return
    out()
    for pair in found.pairs[:3]:
        out(f"{paint('question', 'bold')}  {pair.prompt}")
        out(f"{paint('base', 'bold')}      {_short(pair.base)}")
        out(f"{paint('tuned', 'bold')}     {paint(_short(pair.tuned), 'green')}")
        out()
    count = len(found.pairs)
    out(f"exact match on {count} held-out rows: base {found.base:.2f}, tuned {paint(f'{found.tuned:.2f}', 'green')}")
    name = job.model or ""
    say("\nnext:")
    say(f'  ft chat {name} "{found.pairs[-1].prompt}"')
    say(f"  ft promote {name} --to production")
    say("  ft up        # workers, and an OpenAI-compatible server that answers as these models")


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 100 else line[:99] + "…"
