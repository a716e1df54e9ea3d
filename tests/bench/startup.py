"""How long the command line takes to start: `python tests/bench/startup.py [ROUNDS]`.

Compared with the same Python doing nothing, so that the figure means the same on any machine. The commands take
turns, so that a busy moment hits all of them. Exits with 1 when a target is missed.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from finetune.jobs import Event, Job, JobState
from finetune.store import Database, SqlJobs

FT = str(Path(sys.executable).parent / "ft")
JOBS = 100
#: Times the start of Python, at most.
TARGETS = {"ft --help": 8.0, "ft status": 30.0}
COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "ft --help": [FT, "--help"],
    "ft status": [FT, "status"],
}


def fill(home: Path) -> None:
    """Make a store with finished jobs in `home`."""
    home.mkdir()
    database = Database.open(f"sqlite:///{home / 'ft.db'}")
    store = SqlJobs(database)
    start = datetime(2026, 11, 1, tzinfo=UTC)
    for number in range(JOBS):
        at = start + timedelta(minutes=number)
        job = Job(
            id=f"ft_{number:010}",
            name="support-bot",
            owner="bench",
            provider="local",
            base_model="ft/tiny-chat",
            recipe={"version": 1, "name": "support-bot"},
            data={},
            fingerprint=f"{number:064}",
            state=JobState.SUCCEEDED,
            created_at=at,
            changed_at=at,
            finished_at=at,
        )
        store.submit(job, Event(kind="state", message="queued", at=at), force=True)
    database.close()


def seconds(argv: Sequence[str], env: Mapping[str, str]) -> float:
    """Wall-clock seconds of one run. Raises CalledProcessError when it fails."""
    start = time.perf_counter()
    subprocess.run(argv, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env=env)
    return time.perf_counter() - start


def main(rounds: int = 25) -> int:
    """Measure and print; the exit status."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "ft"
        fill(home)
        env = {**os.environ, "FT_HOME": str(home)}
        taken: dict[str, list[float]] = {name: [] for name in COMMANDS}
        # The first round writes byte code and warms the disk cache.
        for number in range(rounds + 1):
            for name, argv in COMMANDS.items():
                took = seconds(argv, env)
                if number:
                    taken[name].append(took)
    print(f"{rounds} rounds, {JOBS} jobs in the store, Python {sys.version.split()[0]}")
    print(f"{'command':16} {'median ms':>9} {'least ms':>9} {'ratio':>7} {'target':>7}")
    bare = statistics.median(taken["python -c pass"])
    missed = False
    for name, times in taken.items():
        median = statistics.median(times)
        target = TARGETS.get(name)
        missed |= target is not None and median / bare > target
        limit = f"{target:.0f}x" if target else ""
        print(f"{name:16} {median * 1e3:9.1f} {min(times) * 1e3:9.1f} {median / bare:6.1f}x {limit:>7}")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
