"""However large a place is and whatever it unpacks to, reading it takes the same memory."""

import gzip
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from tests.support.sources import MIB

#: Reads the second file after the first, and prints how many rows it has and by how much the peak of memory grew.
_CHILD = """
import resource, sys
from pathlib import Path
from finetune.data.sources import blocks, places

def rows(path):
    found = lambda problem: problem.level == "warning" or print(problem.code, file=sys.stderr)
    for place in places(path, Path(), fetch=False, found=found):
        for block in blocks(place, found):
            yield len(block.rows)

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

sum(rows(sys.argv[1]))
before = peak()
print(sum(rows(sys.argv[2])), peak() - before)
"""
#: Two blocks, the largest row, and what the allocator keeps.
LIMIT_MIB = 60

Write = Callable[[Path, int], str]


def rows(count: int) -> Iterator[bytes]:
    for at in range(count):
        yield json.dumps({"n": at, "text": "words and more words " * 20}).encode()


def lines(folder: Path, count: int) -> str:
    path = folder / f"{count}.jsonl"
    with path.open("wb") as file:
        file.writelines(row + b"\n" for row in rows(count))
    return str(path)


def listed(folder: Path, count: int) -> str:
    path = folder / f"{count}.json"
    with path.open("wb") as file:
        file.write(b'{"data": [{}')
        file.writelines(b",\n" + row for row in rows(count - 1))
        file.write(b"]}")
    return str(path)


def packed(folder: Path, count: int) -> str:
    path = folder / f"{count}.json.gz"
    with gzip.open(path, "wb", 1) as file:
        file.write(b"[{}")
        file.writelines(b",\n" + row for row in rows(count - 1))
        file.write(b"]")
    return str(path)


def separated(folder: Path, count: int) -> str:
    path = folder / f"{count}.csv.zst"
    with path.open("wb") as raw, zstandard.ZstdCompressor(1).stream_writer(raw) as file:
        file.write(b"n,text\n")
        for at in range(count):
            file.write(b'%d,"words ""and"" \n more words and more and more and more and more and more"\n' % at)
    return str(path)


def columns(folder: Path, count: int) -> str:
    path = folder / f"{count}.parquet"
    text = pa.array([f"{at} words and more words " * 10 for at in range(1000)])
    table = pa.table({"text": pa.concat_arrays([text] * (count // 1000))})
    # One row group: the largest unit that the format has.
    pq.write_table(table, path, row_group_size=count, use_dictionary=False)
    return str(path)


def grown(first: str, second: str) -> tuple[int, int]:
    """Rows of the second file, and MiB by which memory grew for it."""
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, first, second], capture_output=True, text=True, timeout=200, check=True
    )
    assert done.stderr == ""
    count, mib = done.stdout.split()
    return int(count), int(mib)


@pytest.mark.parametrize("write", [lines, listed, packed, separated, columns])
def test_memory_does_not_grow_with_the_file(tmp_path: Path, write: Write) -> None:
    small, large = write(tmp_path, 20_000), write(tmp_path, 250_000)

    count, mib = grown(small, large)

    assert count == 250_000
    assert mib < LIMIT_MIB


def test_a_few_bytes_that_unpack_to_gigabytes(tmp_path: Path) -> None:
    bomb = tmp_path / "bomb.jsonl.zst"
    with bomb.open("wb") as raw, zstandard.ZstdCompressor(3).stream_writer(raw) as file:
        for _ in range(1024):
            file.write(b"{}\n" + b" " * (MIB - 3))
    assert bomb.stat().st_size < MIB

    count, mib = grown(lines(tmp_path, 20_000), str(bomb))

    assert count == 1024
    assert mib < LIMIT_MIB
