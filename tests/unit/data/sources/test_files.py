"""What is no file, cannot be read, or does not stay what it was; and that none of it blocks or breaks."""

import gzip
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from finetune.data.sources import Block, blocks, places
from finetune.data.sources.place import LocalFile, Place
from finetune.errors import Problem
from tests.support.sources import check_problem, read

ROWS = b'{"a": 1}\n' * 1000


@contextmanager
def listening(path: Path) -> Iterator[None]:
    with socket.socket(socket.AF_UNIX) as listener:
        here = Path.cwd()
        # The name of a socket is at most 107 bytes long.
        os.chdir(path.parent)
        try:
            listener.bind(path.name)
        finally:
            os.chdir(here)
        yield


@pytest.mark.parametrize("name", ["pipe.jsonl", "pipe"])
def test_a_pipe_is_refused_without_waiting(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)

    assert read(name, tmp_path).fault.code == "E202"
    assert "is a pipe" in read(name, tmp_path).fault.what


def test_a_socket_is_refused(tmp_path: Path, socket_enabled: None) -> None:
    with listening(tmp_path / "rows.jsonl"):
        assert "is a socket" in read("rows.jsonl", tmp_path).fault.what


@pytest.mark.parametrize("spec", ["/dev/zero", "/dev/null", "/dev/tty"])
def test_a_device_is_refused(tmp_path: Path, spec: str) -> None:
    got = read(spec, tmp_path)

    assert got.fault.code == "E202"
    assert "is a device" in got.fault.what


def test_a_pipe_in_a_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(ROWS)
    os.mkfifo(tmp_path / "b.jsonl")

    got = read(".", tmp_path)

    assert got.files == ["./a.jsonl"]
    assert (got.fault.code, got.fault.file) == ("E202", "./b.jsonl")


def made_a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def made_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("change", "code"),
    [(Path.unlink, "E201"), (made_a_pipe, "E202"), (made_a_folder, "E202")],
    ids=["gone", "a pipe", "a folder"],
)
def test_a_place_that_is_gone_when_it_is_read(tmp_path: Path, change: Callable[[Path], None], code: str) -> None:
    (tmp_path / "a.jsonl").write_bytes(ROWS)
    found: list[Problem] = []
    (place,) = places("a.jsonl", tmp_path, fetch=False, found=found.append)

    change(tmp_path / "a.jsonl")

    assert list(blocks(place, found.append)) == []
    (problem,) = found
    assert problem.code == code
    check_problem(problem)


def test_a_file_that_may_not_be_read(tmp_path: Path, as_nobody: None) -> None:
    (tmp_path / "a.jsonl").write_bytes(ROWS)
    (tmp_path / "a.jsonl").chmod(0)

    got = read("a.jsonl", tmp_path)

    assert got.fault.code == "E203"
    assert got.fault.why == "Permission denied"


def test_a_file_below_a_folder_that_may_not_be_entered(tmp_path: Path, as_nobody: None) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d").chmod(0)

    got = read("d/a.jsonl", tmp_path)

    (tmp_path / "d").chmod(0o700)
    assert got.fault.code == "E203"


def test_a_file_whose_disk_fails(tmp_path: Path) -> None:
    # The kernel answers a read of its first page with an input/output error, as a broken disk would.
    got = read("/proc/self/mem", tmp_path)

    assert got.fault.code == "E203"
    assert got.fault.why == "Input/output error"


def while_read(path: Path, change: Callable[[Path], None]) -> tuple[list[Block], list[Problem]]:
    """Read a block, change the file, read the rest."""
    found: list[Problem] = []
    place = Place(path.name, "jsonl", path.stat().st_size, LocalFile(path))
    rest = blocks(place, found.append, target_bytes=1000)
    first = next(rest)
    change(path)
    return [first, *rest], found


def grown(path: Path) -> None:
    with path.open("ab") as file:
        file.write(ROWS)


def cut(path: Path) -> None:
    os.truncate(path, 2000)


def written_over(path: Path) -> None:
    before = path.stat()
    with path.open("r+b") as file:
        file.write(b'{"b": 2}')
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))


@pytest.mark.parametrize("change", [grown, cut, written_over])
def test_a_file_that_changes_while_it_is_read(tmp_path: Path, change: Callable[[Path], None]) -> None:
    (tmp_path / "a.jsonl").write_bytes(ROWS)

    _, found = while_read(tmp_path / "a.jsonl", change)

    (problem,) = found
    assert problem.code == "E224"
    check_problem(problem)


def test_a_packed_file_that_is_cut_while_it_is_read(tmp_path: Path) -> None:
    noise = b"".join(b'{"a": "%s"}\n' % os.urandom(200).hex().encode() for _ in range(20_000))
    (tmp_path / "a.jsonl").write_bytes(gzip.compress(noise, 1))

    _, found = while_read(tmp_path / "a.jsonl", lambda path: os.truncate(path, 1_000_000))

    assert [each.code for each in found] == ["E222", "E223", "E224"]


def replaced(path: Path) -> None:
    (path.parent / "new").write_bytes(b"{}\n")
    (path.parent / "new").replace(path)


@pytest.mark.parametrize("change", [replaced, Path.unlink, os.stat])
def test_a_file_that_another_takes_the_place_of_is_read_to_its_end(
    tmp_path: Path, change: Callable[[Path], None]
) -> None:
    (tmp_path / "a.jsonl").write_bytes(ROWS)

    got, found = while_read(tmp_path / "a.jsonl", change)

    assert b"\n".join(row for block in got for row in block.rows) + b"\n" == ROWS
    assert found == []


def test_whoever_stops_early_leaves_no_file_open(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(ROWS)
    open_before = os.listdir("/proc/self/fd")

    rest = blocks(Place("a", "jsonl", None, LocalFile(tmp_path / "a.jsonl")), lambda _: None, target_bytes=1000)
    next(rest)
    assert len(os.listdir("/proc/self/fd")) == len(open_before) + 1
    rest.close()  # type: ignore[attr-defined]

    assert os.listdir("/proc/self/fd") == open_before
