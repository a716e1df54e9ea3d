"""Many hosted jobs, faults on every call: `python -m tests.bench.hosted [JOBS] [RATE] [PROVIDER]`; 10000, 0.05, openai.

One process moves all of them against a stand-in in another, where each request meets a fault with that chance. Time is
travelled: nobody waits for what is due later. Printed: jobs lost, jobs paid twice, requests and CPU seconds per job.
Exits with 1 when one was lost or paid twice. What a fault cut off is looked up, so nothing may be left over at the end.

`python -m tests.bench.hosted idle [PROVIDER]`: what a job costs that only trains, for a day: requests and CPU seconds.
"""

import json
import multiprocessing
import random
import resource
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from datetime import timedelta
from importlib.metadata import entry_points
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from finetune.jobs import Job, JobState
from finetune.lifecycle import Lifecycle, Ways
from tests.support.hosted_world import HostedWorld
from tests.support.travel import Traveller

SEED = 11
#: How many different contents there are.
_CONTENTS = 20


def serve(provider: str, rate: float, seed: int, pipe: Connection) -> None:
    """The stand-in, in a process of its own, until the pipe ends."""
    from finetune.sandbox.faults import Faults
    from finetune.sandbox.server import Server

    (entry,) = entry_points(group="ft.sandboxes", name=provider)
    sandbox = entry.load()(faults=Faults(rate=rate, seed=seed))
    with Server(sandbox) as server:
        pipe.send((server.url, server.environment))
        pipe.recv()
        used = resource.getrusage(resource.RUSAGE_SELF)
        pipe.send((len(server.broken), used.ru_utime + used.ru_stime, len(sandbox.faults.happened), server.requests))


def move(world: HostedWorld) -> int:
    """Advance whatever is due until all jobs have ended; returns how many steps that took."""
    chance = random.Random(SEED).random
    ways = Ways(chance=chance, max_poll_s=60.0)
    lifecycle = Lifecycle(
        world.jobs, world.models, lambda name: world.provider, world.queue, world.clock, owner="bench", ways=ways
    )
    steps = 0
    while left := world.jobs.recent(unfinished=True):
        due = world.jobs.due(world.clock.now(), 1000)
        if not due:
            soonest = min(job.due_at for job in left if job.due_at)
            world.clock.sleep(max(0.01, (soonest - world.clock.now()).total_seconds()))
            continue
        for each in due:
            lifecycle.advance(each.key)
            steps += 1
        world.queue.rung.clear()
    return steps


def main(jobs: int = 10_000, rate: float = 0.05, provider: str = "openai") -> int:
    """Run and print; 1 when a job was lost or paid twice."""
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(provider, rate, SEED, theirs))
    server.start()
    url, environ = ours.recv()

    def along(seconds: float) -> None:
        body = json.dumps({"advance_s": seconds}).encode()
        urllib.request.urlopen(urllib.request.Request(f"{url}/_sandbox/clock", body), timeout=30).close()

    with tempfile.TemporaryDirectory() as folder:
        start, before = time.monotonic(), time.process_time()
        world = HostedWorld(provider, Path(folder), environ, Traveller(along), read_s=10.0)
        world.provider._kit = _fast(world.provider._kit)  # type: ignore[attr-defined]
        ids = [world.submit(f"ft_b{number:09d}", number % _CONTENTS) for number in range(jobs)]
        steps = move(world)
        cpu, wall = time.process_time() - before, time.monotonic() - start
        ledger = _ledger(url)
        ended = {job.id: job for job in world.jobs.recent()}
        models = {model.job_id for model in world.models.models()}
        world.close()
    ours.send(None)
    broken, served_s, faults, requests = ours.recv()
    server.join()
    return report(
        ids,
        ended,
        models,
        ledger,
        {
            "provider": provider,
            "jobs": jobs,
            "seed": SEED,
            "faults met": faults,
            "faults of the stand-in": broken,
            "requests a job": round(requests / jobs, 2),
            "steps a job": round(steps / jobs, 2),
            "CPU s a job, ours": round(cpu / jobs, 4),
            "CPU s a job, the stand-in": round(served_s / jobs, 4),
            "seconds": round(wall, 1),
        },
    )


def idle(provider: str = "openai", hours: float = 24.0) -> int:
    """Print what one job costs that trains for so long; 1 when it did not train to the end of that time."""
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(provider, 0.0, SEED, theirs))
    server.start()
    _url, environ = ours.recv()
    with tempfile.TemporaryDirectory() as folder:
        # The stand-in's clock stands still beside ours: there the training has just begun, all day long.
        clock = Traveller()
        world = HostedWorld(provider, Path(folder), environ, clock, read_s=10.0)
        job_id, end = world.submit(), clock.now() + timedelta(hours=hours)
        job = world.run(until=lambda job: job.state is JobState.RUNNING)
        lifecycle, steps, before = world.lifecycle(), 0, time.process_time()
        while job.state is JobState.RUNNING and job.due_at and job.due_at <= end:
            clock.sleep(max(0.0, (job.due_at - clock.now()).total_seconds()))
            job = lifecycle.advance(job_id) or world.jobs.get(job_id)
            steps += 1
        cpu = time.process_time() - before
        world.close()
    ours.send(None)
    broken, _served_s, _faults, requests = ours.recv()
    server.join()
    print(f"{'provider':28} {provider}, a job that trains for {hours:g} h")
    print(f"{'polls':28} {steps}")
    print(f"{'requests, with its start':28} {requests}")
    print(f"{'CPU s, ours':28} {cpu:.1f}  ({cpu / steps * 1e3:.1f} ms a poll)")
    return bool(broken or job.state is not JobState.RUNNING)


def _fast(kit: Any) -> Any:
    """Without a limit on requests: the stand-in has none."""
    from dataclasses import replace

    return replace(kit, requests_per_s=1e6)


def _ledger(url: str) -> list[dict[str, Any]]:
    with urllib.request.urlopen(f"{url}/_sandbox/jobs", timeout=120) as answer:
        entries: list[dict[str, Any]] = json.load(answer)
    return entries


def report(
    ids: list[str],
    ended: dict[str, Job],
    models: set[str],
    ledger: list[dict[str, Any]],
    figures: dict[str, Any],
) -> int:
    """Print what was found."""
    live = Counter(entry["key"] for entry in ledger if entry["live"] and entry["paid"])
    states = Counter(str(ended[each].state) for each in ids)
    lost = [each for each in ids if ended[each].state != JobState.SUCCEEDED or each not in models]
    double = [each for each in ids if live[str(ended[each].run_key)] > 1]
    astray = (
        [
            each
            for each in ids
            if ended[each].remote_id
            not in {entry["remote_id"] for entry in ledger if entry["key"] == ended[each].run_key}
        ]
        if len(ids) <= 1000
        else []
    )
    cancelled = sum(not entry["live"] for entry in ledger)
    for name, value in figures.items():
        print(f"{name:28} {value}")
    print(f"{'ended as':28} {dict(states)}")
    print(f"{'made at the stand-in':28} {len(ledger)}, of which created twice and cancelled: {cancelled}")
    print(f"{'lost':28} {len(lost)} {lost[:3]}")
    print(f"{'paid twice':28} {len(double)} {double[:3]}")
    return bool(lost or double or astray or figures["faults of the stand-in"])


if __name__ == "__main__":
    given = sys.argv[1:]
    if given[:1] == ["idle"]:
        sys.exit(idle(*given[1:2]))
    sys.exit(main(*(kind(text) for kind, text in zip((int, float, str), given, strict=False))))
