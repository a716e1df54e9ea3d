"""Jobs, comparisons and promotions as a person reads them."""

import shlex
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from finetune.cli import exits
from finetune.cli.output import out, paint, say, state, tell
from finetune.errors import Problem

if TYPE_CHECKING:
    from finetune.catalogue import Cost
    from finetune.evaluation.compare import Comparison
    from finetune.jobs import Job, Json
    from finetune.versions import Promotion

_PAIRS = 3
_WIDTH = 100


def one(job: "Job") -> None:
    """Everything worth knowing about a job, a line each."""
    from finetune.cli.progress import progress_text

    words = f" ({job.provider_state})" if job.provider_state not in (None, str(job.state)) else ""
    rows = [("job", job.id), ("name", job.name), ("target", job.target), ("state", f"{state(job.state)}{words}")]
    rows += [("progress", progress_text(job.progress))] if job.progress else []
    rows += [("cost", _cost(job.cost))] if job.cost else []
    rows += [("model", job.model)] if job.model else []
    rows += [("submitted", f"{job.created_at.astimezone():%Y-%m-%d %H:%M:%S} by {job.owner}")]
    for label, text in rows:
        out(f"{paint(label.ljust(9), 'dim')}  {text}")
    _error(job)


def price(cost: "Cost") -> str:
    """What a training costs, in a line."""
    if cost.high_usd is None:
        return f"not known beforehand ({cost.basis})"
    about = f"{cost.high_usd}" if cost.low_usd == cost.high_usd else f"{cost.low_usd} to {cost.high_usd}"
    return f"{about} US dollars ({cost.basis})"


def end(job: "Job") -> None:
    """How a job has ended, in a line; its error to stderr."""
    model = f"  {job.model}" if job.model else ""
    out(f"{job.id}  {state(job.state)}{model}")
    _error(job)


def row(job: "Job", now: datetime) -> tuple[str, ...]:
    """A job in the list: id, state, name, target, age, and its model, steps, or what it waits for."""
    from finetune.cli.progress import steps_text

    progress = job.progress or {}
    steps = steps_text(progress) if progress else ""
    # A job that the provider has is `running` to us, also while it waits there.
    waits = job.provider_state if job.provider_state not in (None, "running") and not job.final else ""
    return (job.id, str(job.state), job.name, job.target, _age(now - job.created_at), job.model or steps or waits or "")


def comparison(found: "Comparison", model: str) -> None:
    """Some answers of both models, the score over all of them, and what to do next."""
    out()
    for pair in found.pairs[:_PAIRS]:
        out(f"{paint('question', 'bold')}  {_line(pair.prompt)}")
        out(f"{paint('base', 'bold')}      {_line(pair.base)}")
        out(f"{paint('tuned', 'bold')}     {paint(_line(pair.tuned), 'green')}")
        out()
    score = f"base {found.base:.2f}, tuned {paint(f'{found.tuned:.2f}', 'green')}"
    out(f"exact match on {len(found.pairs)} held-out rows: {score}")
    say("\nnext:")
    # Quoted for a shell: the prompt is data, and this line is there to be pasted.
    say(f"  ft chat {shlex.quote(model)} {shlex.quote(_line(found.pairs[-1].prompt))}")
    say(f"  ft promote {shlex.quote(model)} --to production")
    say("  ft up        # workers, and an OpenAI-compatible server that answers as these models")


def promotion(one: "Promotion") -> int:
    """Say why a promotion did not come to a good end; the exit code, 0 while it is under way."""
    if one.error is not None:
        tell(Problem(**one.error))
    elif one.state == "superseded":
        say(f"another promotion, or a roll back, of {one.name}@{one.alias} came after it")
    if not one.final or one.state == "live":
        return exits.OK
    return exits.GATE_REFUSED if one.state == "refused" else exits.FAILED


def estimate(cost: "Json | None") -> str:
    """What a job costs, as far as its row tells."""
    if cost is None:
        return "nothing that is billed"
    return _cost(cost)


def _cost(cost: "Json") -> str:
    if quote := cost.get("quote"):
        return f"{quote.get('usd') or 'no price'} US dollars, named by the provider"
    if cost.get("high") is None:
        return f"not known beforehand ({cost['basis']})"
    low, high = cost["low"], cost["high"]
    return f"{high if low == high else f'{low} to {high}'} US dollars ({cost['basis']})"


def _error(job: "Job") -> None:
    if job.error:
        error = Problem(**job.error)
        why, fix = error.why or f"see `ft logs {job.id}`", error.fix or f"`ft explain {error.code}`"
        tell(replace(error, why=why, fix=fix))


def _age(age: timedelta) -> str:
    seconds = max(0, int(age.total_seconds()))
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def _line(text: str) -> str:
    """On one line, no longer than a terminal likes, and with nothing in it that a terminal would obey."""
    line = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return line if len(line) <= _WIDTH else line[: _WIDTH - 1] + "…"
