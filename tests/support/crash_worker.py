"""A worker process that may kill itself: `python crash_worker.py PROVIDER FOLDER AHEAD_S POINT`.

It moves the one job of the database in FOLDER until that has ended, or until POINT, where it sends itself SIGKILL.
The environment says where the stand-in is. Prints how far ahead of the time it has travelled.
"""

import os
import signal
import sys
import urllib.request
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from finetune.jobs import JobState
from finetune.store import jobs as store_jobs
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
    apply, record, create = world.jobs.apply, world.jobs.record, world.provider.create
    append = store_jobs._append

    def applying(lease: Any, change: Any, now: Any) -> Any:
        moved = lease.job.state, change.state
        if point == POINTS[0] and moved == (JobState.PREPARING, JobState.SUBMITTING):
            die()
        done = apply(lease, change, now)
        if point == POINTS[1] and moved == (JobState.PREPARING, JobState.SUBMITTING):
            die()
        return done

    def recording(*args: Any) -> Any:
        done = record(*args)
        if point == POINTS[2]:
            die()
        return done

    def creating(*args: Any) -> Any:
        made = create(*args)
        if point == POINTS[4]:
            die()
        return made

    def appending(connection: Any, job_id: str, new: Any) -> None:
        append(connection, job_id, new)
        if point == POINTS[5] and any(event.message.startswith("running") for event in new):
            # Inside the transaction: all is written, nothing is committed.
            die()

    world.jobs.apply, world.jobs.record, world.provider.create = applying, recording, creating
    store_jobs._append = appending


def main(name: str, folder: str, ahead_s: str, point: str) -> None:
    clock = Traveller(along(os.environ["SANDBOX_URL"]), float(ahead_s))
    world = HostedWorld(name, Path(folder), dict(os.environ), clock, read_s=10.0)
    arm(world, point)
    world.run()
    sys.stdout.write(f"{clock.ahead_s}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
