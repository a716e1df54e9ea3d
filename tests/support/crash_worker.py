"""A worker process that may kill itself: `python crash_worker.py PROVIDER FOLDER AHEAD_S POINT`.

It moves the one job of the database in FOLDER until that has ended, or until POINT, where it sends itself SIGKILL.
The environment says where the stand-in is. Prints how far ahead of the time it has travelled.
"""

import os
import signal
import sys
import urllib.request
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from finetune.jobs import JobState
from finetune.store import statements
from tests.support.hosted_world import HostedWorld
from tests.support.travel import Traveller

#: Before what is done at each point, and after it.
POINTS = (
    "after the upload, before the attempt row",
    "after the attempt row",
    "before the create call",
    "in the create call",
    "after the create's response",
    "before the commit",
)
#: Where a job waits for a start that costs.
START_POINTS = ("in the start call", "after the start's response")


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def along(url: str) -> Any:
    """Puts the stand-in's clock forward too."""

    def move(seconds: float) -> None:
        body = f'{{"advance_s": {seconds}}}'.encode()
        urllib.request.urlopen(urllib.request.Request(f"{url}/_sandbox/clock", body), timeout=5).close()

    return move


def arm(world: HostedWorld, point: str) -> None:
    """Lay the point in the worker's path."""
    if point in POINTS[:2]:
        apply = world.jobs.apply
        world.jobs.apply = partial(attempted, apply, point)  # type: ignore[method-assign]
    elif point == POINTS[2]:
        world.jobs.record = then_die(world.jobs.record)  # type: ignore[method-assign]
    elif point == POINTS[4]:
        world.provider.create = then_die(world.provider.create)  # type: ignore[method-assign]
    elif point == POINTS[5]:
        statements.append = appended(statements.append)
    elif point == START_POINTS[1]:
        world.provider.start = then_die(world.provider.start)  # type: ignore[attr-defined]


def then_die(call: Any) -> Any:
    """The call, and after it the end."""

    def called(*args: Any) -> None:
        call(*args)
        die()

    return called


def attempted(apply: Any, point: str, lease: Any, change: Any, now: Any, **kept: Any) -> Any:
    """Dies before the attempt is committed, or after it."""
    here = (lease.job.state, change.state) == (JobState.PREPARING, JobState.SUBMITTING)
    if here and point == POINTS[0]:
        die()
    done = apply(lease, change, now, **kept)
    if here:
        die()
    return done


def appended(append: Any) -> Any:
    """Dies inside the transaction that says that the job runs: all is written, nothing is committed."""

    def appending(connection: Any, job_id: str, new: Any) -> None:
        append(connection, job_id, new)
        if any(event.message.startswith("running") for event in new):
            die()

    return appending


def main(name: str, folder: str, ahead_s: str, point: str) -> None:
    clock = Traveller(along(os.environ["SANDBOX_URL"]), float(ahead_s))
    world = HostedWorld(name, Path(folder), dict(os.environ), clock, read_s=10.0)
    arm(world, point)
    world.run(at_once=True)
    sys.stdout.write(f"{clock.ahead_s}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
