"""How fast training data is checked: `python tests/bench/data.py [MEGABYTES]`, 1000 if not said.

A generated file of chats against two floors in the same run: the reading of its bytes, and `orjson.loads` of each line.
All checks, the digest, exact duplicates and statistics are timed on one core and on two; near duplicates and personal
data apart, on a tenth of the file; and Together's own check of a file, where its package is installed. Each runs in
a process of its own, whose peak of memory is measured too. Exits with 1 when a target is missed.
"""

import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from finetune.data import DataRequest, inspect

#: Times the floor of `orjson.loads`, at most; and megabytes of memory, at most.
TARGETS = {"all checks, one core": 6.0, "all checks, two cores": 3.5}
MEMORY_MB = 300
_WORDS = 4000


def generate(path: Path, size: int) -> int:
    """Chats of one to four exchanges, some with a system message, some not in ASCII. Returns the number of rows."""
    chance = random.Random(7)
    letters = "etaoinshrdlucmfwypvbgkqjxz"
    words = ["".join(chance.choices(letters, range(26, 0, -1), k=chance.randint(2, 9))) for _ in range(_WORDS)]
    words += ["Größe", "naïve", "señor", "订单", '"quoted"', "tab\there"]
    texts = [" ".join(chance.choices(words, k=chance.randint(20, 160))) for _ in range(3000)]
    written = rows = 0
    with path.open("wb") as file:
        while written < size:
            messages = [{"role": "system", "content": "You answer customers of a shop."}] * chance.randint(0, 1)
            for turn in range(chance.randint(1, 4)):
                messages.append({"role": "user", "content": f"{rows}.{turn} {chance.choice(texts)}"})
                messages.append({"role": "assistant", "content": f"{chance.choice(texts)}\n\n{chance.choice(texts)}"})
            line = json.dumps({"messages": messages}, ensure_ascii=rows % 4 == 0).encode() + b"\n"
            written += file.write(line)
            rows += 1
    return rows


def read_bytes(path: Path) -> None:
    """The first floor."""
    with path.open("rb", buffering=0) as file:
        while file.read(1 << 20):
            pass


def parse_lines(path: Path) -> None:
    """The second floor."""
    import orjson

    with path.open("rb") as file:
        for line in file:
            orjson.loads(line)


def check(path: Path, processes: int, **how: object) -> None:
    """What `ft validate` does with the data."""
    request = DataRequest(train=str(path), folder=Path(), **how)  # type: ignore[arg-type]
    report = inspect(request, processes=processes)
    if report.errors:
        raise SystemExit(f"the generated file has faults: {report.errors[0]}")


def together(path: Path) -> None:
    """The check that Together's own package makes of a file."""
    from together.lib.utils.files import check_file

    if not check_file(path)["is_check_passed"]:
        raise SystemExit("together refuses the generated file")


MEASURES: dict[str, Callable[[Path], None]] = {
    "reading the bytes": read_bytes,
    "orjson.loads per line": parse_lines,
    "all checks, one core": lambda path: check(path, 1),
    "all checks, two cores": lambda path: check(path, 2),
    "together's check_file": together,
}
APART: dict[str, Callable[[Path], None]] = {
    "orjson.loads per line": parse_lines,
    "all checks and near duplicates, one core": lambda path: check(path, 1, near=True),
    "all checks and personal data, one core": lambda path: check(path, 1, privacy="warn"),
}


def measure(name: str, path: Path) -> tuple[float, float]:
    """Seconds, and megabytes at the peak: of the process, and of each of its children what the largest had."""
    argv = [sys.executable, __file__, "--measure", name, str(path)]
    ran = subprocess.run(argv, check=True, stdout=subprocess.PIPE, text=True)
    seconds, megabytes = json.loads(ran.stdout)
    return seconds, megabytes


def _measured(name: str, path: Path) -> None:
    task = (MEASURES | APART)[name]
    start = time.perf_counter()
    task(path)
    seconds = time.perf_counter() - start
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    child = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    sys.stdout.write(json.dumps([seconds, (own + 2 * child) / 1024]))


def table(
    title: str, tasks: dict[str, Callable[[Path], None]], path: Path, rounds: int
) -> dict[str, tuple[float, float]]:
    """Measure in turns, print, and return the best of each."""
    best: dict[str, tuple[float, float]] = {}
    for _ in range(rounds):
        for name in tasks:
            if name == "together's check_file" and (find_spec("together") is None or name in best):
                continue
            found = measure(name, path)
            best[name] = min(found, best.get(name, found))
    floor = best["orjson.loads per line"][0]
    print(f"\n{title}: {path.stat().st_size / 1e6:.0f} MB\n")
    print("| | seconds | times orjson | peak MB |\n| --- | ---: | ---: | ---: |")
    for name, (seconds, megabytes) in best.items():
        print(f"| {name} | {seconds:.2f} | {seconds / floor:.2f} | {megabytes:.0f} |")
    return best


def main() -> int:
    """Print both tables; 1 when a target is missed."""
    megabytes = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    with tempfile.TemporaryDirectory() as folder:
        path, tenth = Path(folder, "chats.jsonl"), Path(folder, "tenth.jsonl")
        rows = generate(path, megabytes * 1_000_000)
        generate(tenth, megabytes * 100_000)
        print(f"{rows} rows, {os.cpu_count()} cores, Python {sys.version.split()[0]}")
        best = table("All rows", MEASURES, path, 2)
        table("Apart", APART, tenth, 1)
    floor = best["orjson.loads per line"][0]
    missed = [name for name, most in TARGETS.items() if best[name][0] > most * floor]
    missed += [f"memory of {name}" for name in TARGETS if best[name][1] > MEMORY_MB]
    print(f"\nmissed: {', '.join(missed)}" if missed else "\nall targets met")
    return bool(missed)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        _measured(sys.argv[2], Path(sys.argv[3]))
    else:
        sys.exit(main())
