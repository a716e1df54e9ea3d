"""Every broken or odd thing in the corpus is told with its code and line, within bounds of memory and time."""

import json
import time
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from finetune.codes import CODES
from finetune.errors import Problem
from tests.support.broken import CORPUS, Broken, run

#: A row of 16 MiB is held a few times while it is cut out, decoded and parsed.
MAX_BYTES = 128 << 20
#: Of this process's time, with a tracer of memory that slows it down; a gigabyte is read in it. Where processors are
#: shared the same work takes longer, so what takes more is held against plain parsing, then and there.
MAX_CPU_S = 15.0
MAX_YARDS = 9.0
YARD = "[" + '{"a": [1]}, ' * 100_000 + "{}]"


def yard_s() -> float:
    """What plain parsing takes of this process's time now: 1.6 s where nothing else runs."""
    begin_s = time.process_time()
    tracemalloc.start()
    for _ in range(3):
        json.loads(YARD)
    tracemalloc.stop()
    return time.process_time() - begin_s


def told(broken: Broken, folder: Path) -> tuple[Problem, ...]:
    """What is said of it, once it is sure that it took no more than it may."""
    begin_s = time.process_time()
    tracemalloc.start()
    try:
        found = run(broken, folder)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < MAX_BYTES, f"{peak / 2**20:.0f} MiB"
    took_s = time.process_time() - begin_s
    assert took_s < MAX_CPU_S or took_s < MAX_YARDS * yard_s()
    return found


def entries() -> Iterator[object]:
    """The corpus. What takes a good part of the time that it may take is measured alone."""
    for broken in CORPUS:
        marks = [pytest.mark.alone] if broken.name.startswith("200,000 messages") else []
        yield pytest.param(broken, marks=marks, id=f"{broken.code}-{broken.name}")


@pytest.mark.parametrize("broken", list(entries()))
def test_it_is_told_with_its_code_and_line(broken: Broken, tmp_path: Path) -> None:
    found = told(broken, tmp_path)

    assert (broken.code, broken.line, broken.level) in {(each.code, each.line, each.level) for each in found}
    assert {each.code for each in found} == {broken.code} | broken.beside
    for problem in found:
        assert problem.code in CODES
        assert problem.what
        assert not problem.what.endswith(".")
        assert problem.fix
        said = problem.lines()
        assert all(line.isprintable() for line in said), said
        assert str(tmp_path) not in "\n".join(said)
        "\n".join(said).encode("utf-8")


def test_every_code_of_data_is_in_the_corpus() -> None:
    assert {broken.code for broken in CORPUS} == {code for code in CODES if code.startswith("E2")}


def test_every_entry_has_a_name_of_its_own() -> None:
    assert [name for name, times in Counter(broken.name for broken in CORPUS).items() if times > 1] == []
