"""How fast texts are read: `python -m tests.unit.data.privacy.speed`. Not a test: machines differ."""

import random
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from finetune.data.privacy import find

ENGLISH = """the of and to in is was for that it with as his on be at by had not but from have this which one you were
all her she there would their we him been has when who will no more if out so what up into than them can only some other
time could these two may then do first any like my now over such our man even most made after also did many off before
must well back through years much where your way down should because long each just state people""".split()
GERMAN = """der die das und ist in zu den von mit sich des auf für nicht es dem auch als an nach wie im wenn aber bei
nur über noch werden durch wurde Straße Häuser Jahre Kunde Bestellung Rechnung Lieferung können möchte größer
schön""".split()
LOT = random.Random(3)
CODE = [path.read_text() for path in sorted(Path("finetune").rglob("*.py"))]


def sentence(words: list[str], fact: Callable[[], str], every: int) -> str:
    text = " ".join(LOT.choices(words, k=14)).capitalize() + ". "
    return text + fact() if LOT.randrange(every) == 0 else text


def english_fact() -> str:
    return f"In {LOT.randint(1900, 2030)} it cost ${LOT.randint(1, 999)}.99, order #{LOT.randint(10**7, 10**10)}. "


def german_fact() -> str:
    day = f"{LOT.randint(1, 28)}.{LOT.randint(1, 12)}.{LOT.randint(1990, 2026)}"
    return f"Am {day} zahlte er {LOT.randint(1, 999)},99 \u20ac \u2013 Bestellnr. {LOT.randint(10**7, 10**9)}. "


def english_person() -> str:
    first, last, firm = LOT.choices(ENGLISH, k=3)
    return f"Mail {first}.{last}@{firm}firm.com or ring +49 30 {LOT.randint(10**6, 10**7)}. "


MAKERS: dict[str, Callable[[], str]] = {
    "English, a number in 5 sentences": lambda: sentence(ENGLISH, english_fact, 5),
    "English, a number in 50 sentences": lambda: sentence(ENGLISH, english_fact, 50),
    "German, a number in 5 sentences": lambda: sentence(GERMAN, german_fact, 5),
    "German, a number in 50 sentences": lambda: sentence(GERMAN, german_fact, 50),
    "English, two findings in 50 sentences": lambda: sentence(ENGLISH, english_person, 50),
    "English, two findings in 5 sentences": lambda: sentence(ENGLISH, english_person, 5),
    "Python code": lambda: LOT.choice(CODE),
    "UUIDs and hashes": lambda: f"{uuid.UUID(int=LOT.getrandbits(128))} {LOT.randbytes(32).hex()} ",
    "table of decimals": lambda: " ".join(f"{LOT.random() * 1000:.3f}" for _ in range(8)) + "\n",
    "table of large numbers": lambda: ",".join(str(LOT.randrange(10 ** LOT.randint(2, 14))) for _ in range(8)) + "\n",
}


def texts(make: Callable[[], str], size: int, total: int) -> list[str]:
    found = []
    for _ in range(total // size):
        parts: list[str] = []
        while sum(map(len, parts)) < size:
            parts.append(make())
        found.append("".join(parts))
    return found


def best_s(rows: list[str], rounds: int) -> float:
    """CPU seconds of the best round: others may use the machine meanwhile."""
    took = []
    for _ in range(rounds):
        started = time.process_time()
        for row in rows:
            find(row)
        took.append(time.process_time() - started)
    return min(took)


def main() -> None:
    for size in (300, 3000):
        for name, make in MAKERS.items():
            rows = texts(make, size, 300_000)
            bytes_read = sum(len(row.encode()) for row in rows)
            hits = sum(map(len, map(find, rows)))
            rate = bytes_read / best_s(rows, 9) / 1e6
            sys.stdout.write(f"{name:40} texts of {size:5} {rate:8.1f} MB/s {hits:6} findings\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
