"""Everything goes wrong: `python -m tests.bench.chaos [--jobs 1000] [--seed 1] [--minutes 15]`. Has its own servers.

Jobs of all kinds, local ones with a trainer that trains nothing and a few with the real one, hosted ones against the
stand-in for OpenAI with faults of its own; users cancel, pause, and move jobs forward. Meanwhile workers and trainers
are killed, and stopped for longer than their leases last; Redis forgets everything; Redis and PostgreSQL are restarted,
and PostgreSQL's processes are killed. Submits go on while servers are down.

Printed: the plan, what happened, how the jobs ended, and which were lost, ran twice or are wrong. Exits with 1 when one
was. `--sabotage token` and `--sabotage sweep` break the workers on purpose: then some must be.
"""

import argparse
import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from finetune.clock import SystemClock
from tests.support.chaos import LIMITS, WORKERS, Run, Site
from tests.support.chaos_plan import FAULTS, KINDS, Plan, draw
from tests.support.chaos_referee import Verdict, books, judge

#: How long the looking for second jobs of one key may take after the end.
_SETTLE_S = 75.0
#: What a worker does that has just come back is seen by then.
_LATE_S = 3.0


def main() -> int:
    """Play, judge, print; 1 when a job was lost, ran twice or is wrong."""
    asked = _arguments()
    window_s = asked.minutes * 60 * 0.55 if asked.window is None else asked.window
    plan = draw(asked.seed, asked.jobs, window_s, asked.gap)
    print(f"seed {plan.seed}: {len(plan.parts)} jobs and {len(plan.faults)} faults in {window_s:.0f} s", flush=True)
    _told("jobs", Counter(part.kind for part in plan.parts), list(KINDS))
    _told("faults planned", Counter(fault.what for fault in plan.faults), list(FAULTS))
    with tempfile.TemporaryDirectory(prefix="ft-chaos-") as folder:
        Path(folder).chmod(0o755)
        with Site(Path(folder), plan=plan, sabotage=asked.sabotage) as site:
            run = Run(site, asked.minutes)
            took = run.play()
            url = os.environ["OPENAI_BASE_URL"].removesuffix("/v1")
            _settle(run, url)
            verdict = judge(site, run.accepted, url)
            if asked.logs:
                (Path(asked.logs)).write_text(site.log())
    return report(plan, run, verdict, took)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.chaos", description=__doc__.split("\n")[0])
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=15, help="the longest it may take; what has not ended is lost")
    parser.add_argument("--window", type=float, help="seconds in which things go wrong; default: most of --minutes")
    parser.add_argument("--gap", type=float, default=5.0, help="seconds between two faults, on average")
    parser.add_argument("--sabotage", choices=["token", "sweep"], default="")
    parser.add_argument("--logs", help="write down there what the workers have said")
    return parser.parse_args()


def _settle(run: Run, url: str) -> None:
    """Jobs that have ended are still watched where a create was in doubt: until no key has two that are paid for."""
    since = time.monotonic()
    while (past_s := time.monotonic() - since) < _SETTLE_S:
        if past_s > _LATE_S and all(sum(entry["live"] for entry in found) < 2 for found in books(url).values()):
            return
        run.site.supervise()
        SystemClock().sleep(0.5)


def report(plan: Plan, run: Run, verdict: Verdict, took: float) -> int:
    """Print what was found."""
    _told("faults that happened", run.done, list(FAULTS))
    print(f"  workers: {WORKERS}, limits: {LIMITS}, hosted requests that met a fault: {plan.hosted_rate:.0%}")
    print(f"  submits and wishes refused while a server was down: {dict(run.refused)}")
    print(f"  {dict(verdict.figures)}")
    print(f"ended after {took:.0f} s; the last to end: {[name for _, name in sorted(verdict.finished)[-3:]]}")
    for kind in KINDS:
        print(f"  {kind:28} {dict(sorted(verdict.kinds[kind].items()))}")
    print(f"all: {dict(sorted(verdict.ends.items()))}")
    verdict.wrong += [f"{count} workers ended by themselves, {how}" for how, count in run.site.ends.items()]
    verdict.wrong += [*run.unclear, *(f"above its limit: {each}" for each in run.over_limit)]
    for name in ("lost", "twice", "wrong"):
        found = getattr(verdict, name)
        print(f"{name:6} {len(found)}")
        for each in found[:10]:
            print(f"    {each}")
    return int(bool(verdict.lost or verdict.twice or verdict.wrong))


def _told(title: str, counts: Counter[str], names: list[str]) -> None:
    print(f"{title}: " + ", ".join(f"{counts[name]} {name}" for name in names if counts[name]), flush=True)


if __name__ == "__main__":
    sys.exit(main())
