"""The crash matrix: for each hosted provider, everything that can go wrong around a submit, and what is left after it.

`CELLS` are all of them; `run` plays one against a fresh stand-in; `table` draws the outcome for the documentation.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from finetune.jobs import Job
from finetune.sandbox.azure import AzureSandbox
from finetune.sandbox.bedrock.jobs import Timing as BedrockTiming
from finetune.sandbox.bedrock.sandbox import BedrockSandbox
from finetune.sandbox.faults import ANYWHERE, Fault, Kind
from finetune.sandbox.fireworks.jobs import Timing as FireworksTiming
from finetune.sandbox.fireworks.sandbox import FireworksSandbox
from finetune.sandbox.mistral.jobs import Timing as MistralTiming
from finetune.sandbox.mistral.sandbox import MistralSandbox
from finetune.sandbox.openai.jobs import Timing as OpenAiTiming
from finetune.sandbox.openai.sandbox import OpenAiSandbox
from finetune.sandbox.server import Server
from finetune.sandbox.service import Sandbox
from finetune.sandbox.together.jobs import Timing as TogetherTiming
from finetune.sandbox.together.sandbox import TogetherSandbox
from finetune.sandbox.vertex.jobs import Timing as VertexTiming
from finetune.sandbox.vertex.sandbox import VertexSandbox
from tests.support.crash_worker import POINTS, START_POINTS
from tests.support.hosted_world import JOB, HostedWorld
from tests.support.travel import Traveller

#: Long trainings: what turns up late must turn up while they run.
SANDBOXES: dict[str, Callable[[], Sandbox]] = {
    "openai": lambda: OpenAiSandbox(timing=OpenAiTiming(running_s=900)),
    "azure": lambda: AzureSandbox(timing=OpenAiTiming(running_s=900, processing_s=0)),
    "mistral": lambda: MistralSandbox(timing=MistralTiming(running_s=900)),
    "vertex": lambda: VertexSandbox(timing=VertexTiming(tuning=900)),
    "bedrock": lambda: BedrockSandbox(timing=BedrockTiming(training=900)),
    "fireworks": lambda: FireworksSandbox(timing=FireworksTiming(running_s=900)),
    "together": lambda: TogetherSandbox(timing=TogetherTiming(running_s=900)),
}
#: What is asked for on the way to a job; where a job has an id of ours, it is not looked for in a list.
CALLS = ("upload", "create", "list", "retrieve")
OTHER_CALLS = {
    "bedrock": ("files", *CALLS, "download"),
    "mistral": (*CALLS, "start"),
    "fireworks": ("create_dataset", "upload_endpoint", "upload", "validate", "create", "retrieve", "content"),
    "together": ("put", "preprocess", "estimate", "events", "metrics", *CALLS),
}
KINDS: tuple[Kind, ...] = (*ANYWHERE, "hang_before", "hang_after")
#: How far behind a list may be: within every adapter's grace period, and beyond it.
LAGS = {"the list lags a little": 10.0, "the list lags beyond the grace period": 90.0}
_READ_S = 0.4
_HANG_S = 0.8
_PATIENCE_S = 60


@dataclass(frozen=True)
class Cell:
    """One thing that goes wrong at one provider."""

    provider: str
    #: In words, for the table.
    what: str
    #: SIGKILL at this point of a worker process.
    crash: str | None = None
    faults: tuple[Fault, ...] = ()
    lag_s: float = 0.0
    #: Ask for the end of the job as soon as a create was sent, or as soon as the provider is known to have it.
    cancel: Literal["", "sent", "known"] = ""
    #: How far the provider's clock is ahead of ours, seconds.
    skew_s: float = 0.0

    @property
    def id(self) -> str:
        return f"{self.provider}: {self.what}"


@dataclass
class Outcome:
    """What was left."""

    cell: Cell
    job: Job
    #: Jobs ever made at the stand-in, and those that somebody pays for.
    made: list[str] = field(default_factory=list)
    live: list[str] = field(default_factory=list)
    #: Faults of the stand-in itself.
    broken: list[str] = field(default_factory=list)
    #: Whether what was laid in the path was met: a cell in which nothing goes wrong proves nothing.
    met: bool = True
    model: str | None = None

    @property
    def right(self) -> bool:
        """Exactly one job is left uncancelled, ours points to it, and it ended well; none after a cancel."""
        if self.broken or not self.met:
            return False
        if self.cell.cancel:
            return self.live == [] and self.job.state == "cancelled"
        ours = self.live == [self.job.remote_id]
        return ours and self.job.state == "succeeded" and self.model == "bot@v1"

    @property
    def text(self) -> str:
        extra = len(self.made) - len(self.live)
        told = f", {extra} more created and cancelled" if extra and not self.cell.cancel else ""
        return f"{len(self.live)} left, {self.job.state}{told}" if self.right else f"WRONG: {self}"


def _cells() -> Iterable[Cell]:
    for provider in SANDBOXES:
        for point in (*POINTS, *(START_POINTS if provider == "mistral" else ())):
            # Killed as soon as the stand-in has done it, while its answer is awaited.
            call = {POINTS[3]: "create", START_POINTS[0]: "start"}.get(point)
            faults = (Fault(kind="hang_after", on=call, seconds=_PATIENCE_S),) if call else ()
            yield Cell(provider, f"SIGKILL {point}", crash=point, faults=faults)
        for operation in OTHER_CALLS.get(provider, CALLS):
            for kind in KINDS:
                yield Cell(provider, f"{kind} at {operation}", faults=(fault(kind, operation),))
        yield Cell(provider, "odd_state at retrieve", faults=(fault("odd_state", "retrieve"),))
        lost, beyond = (fault("cut_after", "create"),), "the list lags beyond the grace period"
        for words, lag_s in LAGS.items():
            yield Cell(provider, f"cut_after at create, {words}", faults=lost, lag_s=lag_s)
        yield Cell(provider, "cut_after at create, then cancelled", faults=lost, cancel="sent")
        cancelled = f"cut_after at create, {beyond}, cancelled"
        yield Cell(provider, f"{cancelled} at once", faults=lost, lag_s=LAGS[beyond], cancel="sent")
        yield Cell(provider, f"{cancelled} when created again", faults=lost, lag_s=LAGS[beyond], cancel="known")
        for words, skew_s in (("ahead", 3600.0), ("behind", -3600.0)):
            yield Cell(provider, f"cut_after at create, its clock is an hour {words}", faults=lost, skew_s=skew_s)


def fault(kind: Kind, operation: str) -> Fault:
    seconds = {"rate_limit": 3.0, "slow": 0.3}.get(kind, _HANG_S)
    # Google's storage is asked for under other names.
    return Fault(kind=kind, on=operation, seconds=seconds)


CELLS = {cell.id: cell for cell in _cells()}


def run(cell: Cell, folder: Path) -> Outcome:
    """Play it to the job's end. `folder` is empty."""
    sandbox = SANDBOXES[cell.provider]()
    for each in cell.faults:
        sandbox.faults.lay(each)
    sandbox.faults.list_lag_s = cell.lag_s
    with Server(sandbox) as server:
        # The stand-in's clock can only be put forward; so where it is behind, ours is ahead.
        sandbox.clock.advance(max(0.0, cell.skew_s))
        clock = Traveller(sandbox.clock.advance, ahead_s=max(0.0, -cell.skew_s))
        world = HostedWorld(cell.provider, folder, server.environment, clock, read_s=_READ_S)
        world.submit()
        if cell.crash:
            _crash(cell, server, folder)
            clock.sleep(60.0)
        elif cell.cancel:
            known = cell.cancel == "known"
            world.run(until=lambda job: bool(job.remote_id if known else job.create_sent_at))
            world.jobs.request_cancel(JOB, clock.now())
        # To the end of the looks that follow an end in doubt.
        job = world.run(until=lambda job: job.final and job.due_at is None, at_once=True)
        ledger = sandbox.ledger()
        models = world.models.models()
        world.close()
        return Outcome(
            cell,
            job,
            made=[entry.remote_id for entry in ledger],
            live=[entry.remote_id for entry in ledger if entry.live and entry.paid],
            broken=list(server.broken),
            met={(each.on, each.kind) for each in cell.faults} <= set(sandbox.faults.happened),
            model=models[0].ref if models else None,
        )


def _crash(cell: Cell, server: Server, folder: Path) -> None:
    """A worker process up to its death."""
    script = Path(__file__).with_name("crash_worker.py")
    environ = {**os.environ, **server.environment, "SANDBOX_URL": server.url}
    argv = [sys.executable, str(script), cell.provider, str(folder), "0", str(cell.crash)]
    child = subprocess.Popen(argv, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        end = time.monotonic() + _PATIENCE_S
        while child.poll() is None and time.monotonic() < end:
            if _done(cell, server):
                child.kill()
            time.sleep(0.02)
    finally:
        child.kill()
        _, said = child.communicate()
    if child.returncode != -9:
        raise AssertionError(f"{cell.id}: the worker ended with {child.returncode}: {said.decode()[-2000:]}")


def _done(cell: Cell, server: Server) -> bool:
    """Whether the stand-in has carried out the call of which no answer comes."""
    jobs = server.sandbox.ledger()
    return bool(jobs) and (cell.crash == POINTS[3] or (cell.crash == START_POINTS[0] and jobs[0].paid))


def table(outcomes: Iterable[Outcome]) -> str:
    """A row a thing that goes wrong, a column a provider."""
    found: dict[str, dict[str, str]] = {}
    for outcome in outcomes:
        found.setdefault(outcome.cell.what, {})[outcome.cell.provider] = outcome.text
    names = list(SANDBOXES)
    lines = [f"| | {' | '.join(names)} |", f"| --- |{' --- |' * len(names)}"]
    lines += [f"| {what} | {' | '.join(row.get(name, '') for name in names)} |" for what, row in found.items()]
    return "\n".join(lines)


def sample(count: int, seed: int) -> list[Cell]:
    """So many cells, of every provider, the same for the same seed."""
    import random

    every: list[Any] = sorted(CELLS)
    return [CELLS[name] for name in sorted(random.Random(seed).sample(every, count))]
