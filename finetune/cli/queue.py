"""queue, workers, pause, resume, priority, retry: what is about the queue."""

import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from finetune.cli import show
from finetune.cli.jobs import JobId, allow
from finetune.cli.output import must, out, out_json, say, table
from finetune.cli.recipes import AsJson, Yes
from finetune.wiring import Desk

if TYPE_CHECKING:
    from finetune.board import Entry
    from finetune.jobs import Job

_WATCH_S = 2.0
_WIDTH = 60
#: The newest promotions, among which those that have not ended are looked for.
_PROMOTIONS = 200


def queue(
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Draw it anew every two seconds, until Ctrl-C.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show what has not ended: jobs, who comes next, and what each waits for; promotions under them.

    JSON has the jobs alone; `ft models show MODEL --json` has a version's promotions.

    Examples: ft queue · ft queue --watch · ft queue --json
    """
    desk = Desk(say=say)
    never = "one JSON document cannot grow"
    must(not (watch and as_json), "--watch and --json do not go together", never, "leave one out")
    if as_json:
        out_json([desk.views.queued(entry) for entry in desk.board.entries()])
        return
    try:
        _draw(desk, clear=watch)
        while watch:
            desk.clock.sleep(_WATCH_S)
            _draw(desk, clear=True)
    except KeyboardInterrupt:
        say("stopped looking; the jobs go on")


def workers(as_json: AsJson = False) -> None:
    """List the workers that live, with their queues and what they do.

    Examples: ft workers · ft workers --json
    """
    from finetune.placement import summary

    desk = Desk(say=say)
    found = desk.board.workers()
    if as_json:
        out_json([desk.views.worker(*each) for each in found])
    elif found:
        now = datetime.now(UTC)
        rows = [
            (
                beat.worker,
                " ".join(beat.queues),
                beat.host,
                str(beat.pid),
                f"{(now - beat.seen_at).total_seconds():.0f} s ago",
                summary(beat.devices),
                " ".join([*(run.run_key for run in busy), *(each.key for each in measuring)]),
            )
            for beat, busy, measuring in found
        ]
        table(("WORKER", "QUEUES", "HOST", "PID", "SEEN", "DEVICES", "TRAINS, MEASURES"), rows)
    else:
        say("no worker lives: `ft up` starts them with the server, `ft worker` without it")


def pause(job: JobId, as_json: AsJson = False) -> None:
    """Pause a job. One that waits keeps waiting; a local training saves, and gives its place free.

    Example: ft pause ft_6c1
    """
    _wish(job, lambda desk, job_id: desk.service.hold(job_id), "pause requested", as_json=as_json)


def resume(job: JobId, as_json: AsJson = False) -> None:
    """Go on with a paused job.

    Example: ft resume ft_6c1
    """
    _wish(job, lambda desk, job_id: desk.service.lift(job_id), "resume requested", as_json=as_json)


def priority(
    job: JobId,
    value: Annotated[int, typer.Argument(metavar="N", help="From -100 to 100; 0 is usual, the highest goes first.")],
    as_json: AsJson = False,
) -> None:
    """Set when a waiting job's turn comes.

    Examples: ft priority ft_6c1 10 · ft priority ft_6c1 -- -10
    """
    _wish(job, lambda desk, job_id: desk.service.prioritise(job_id, value), f"priority {value}", as_json=as_json)


def retry(job: JobId, yes: Yes = False, as_json: AsJson = False) -> None:
    """Submit a failed or cancelled job's recipe and data again, as a new job.

    The data is the one that was checked then. What bills is asked about, as by submit.

    Example: ft retry ft_6c1
    """
    desk = Desk(say=say)
    old = desk.service.job(job)
    allow(desk, old.provider, old.target, show.estimate(old.cost), asks=desk.submitter.bills(old), yes=yes)
    new, created = desk.submitter.again(old)
    if as_json:
        out_json({**desk.views.job(new), "created": created})
        return
    out(f"{new.id}  {new.state}  {new.name}  {new.target}")
    if created:
        desk.lookout.look()
        say(f"next: `ft watch {new.id}`")
    else:
        say(f"{new.id} is the same recipe, data and target, and goes on or has succeeded")


def _wish(job: str, carry_out: "Callable[[Desk, str], Job]", done: str, *, as_json: bool) -> None:
    desk = Desk(say=say)
    found = desk.service.job(job)
    if not found.final:
        found = carry_out(desk, found.id)
    if as_json:
        out_json(desk.views.job(found))
    else:
        out(f"{found.id} has ended already: {found.state}" if found.final else f"{found.id}: {done}")


def _draw(desk: Desk, *, clear: bool) -> None:
    found = desk.board.entries()
    recent = desk.promotions.recent(limit=_PROMOTIONS) if desk.promotions.under_way() else []
    moving = desk.board.moving(recent)
    if clear:
        out("\x1b[2J\x1b[H" if sys.stdout.isatty() else "")
    if not found and not moving:
        say("nothing waits and nothing runs: `ft status` lists what has ended")
    if found:
        head = ("#", "STATE", "JOB", "NAME", "OWNER", "TARGET", "PRIORITY", "ETA", "COST", "WAITS FOR")
        table(head, [_row(each) for each in found])
    if found and moving:
        out()
    if moving:
        rows = [(each.promotion, _short(each.waits_for)) for each in moving]
        cells = [(one.id, one.ref, one.alias, str(one.state), waits) for one, waits in rows]
        table(("ID", "VERSION", "ALIAS", "STATE", "WAITS FOR"), cells)


def _row(entry: "Entry") -> tuple[str, ...]:
    from finetune.cli.progress import minutes, steps_text

    job = entry.job
    waits = entry.waits_for or (steps_text(job.progress) if job.progress else job.provider_state or "")
    return (
        str(entry.position or ""),
        str(job.state),
        job.id,
        job.name,
        job.owner,
        job.target,
        str(job.priority or ""),
        minutes(entry.eta_s) if entry.eta_s is not None else "",
        _cost(job),
        _short(waits),
    )


def _short(text: str) -> str:
    return text if len(text) <= _WIDTH else text[: _WIDTH - 3] + "..."


def _cost(job: "Job") -> str:
    cost = job.cost or {}
    known = cost.get("spent") or (cost.get("quote") or {}).get("usd") or cost.get("high")
    limit = (job.recipe.get("limits") or {}).get("max_cost")
    return " of ".join(str(each) for each in (known and f"{known} USD", limit) if each)
