"""Rows that stand twice or on both sides: the same answer whatever the memory, and never more of it than allowed."""

import hashlib
import os
import tracemalloc
from array import array
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune.data.repeats import BYTES_A_ROW, Found, Repeat, Repeats, pack, unpack
from finetune.errors import StateError

ENOUGH = 1 << 30
LITTLE = 1 << 15
SCARCE = 1 << 10


def sha256(text: object) -> bytes:
    return hashlib.sha256(str(text).encode()).digest()


def block(rows: Iterable[tuple[bytes, int]]) -> tuple[bytes, bytes]:
    rows = list(rows)
    return b"".join(digest for digest, _ in rows), b"".join(place.to_bytes(8, "little") for _, place in rows)


def found(rows: Sequence[tuple[bytes, int]], memory_bytes: int, size: int = 1000, keep: int = 20) -> Found:
    with Repeats(memory_bytes=memory_bytes) as repeats:
        for start in range(0, len(rows), size):
            repeats.add(*block(rows[start : start + size]))
        return repeats.found(keep=keep)


def expected(rows: Sequence[tuple[bytes, int]], keep: int) -> Found:
    """The same, said as simply as can be."""
    first: dict[tuple[int, bytes], int] = {}
    repeated: list[Repeat] = []
    for digest, place in rows:
        key = (unpack(place).side, digest)
        if key in first:
            repeated.append(Repeat(place, first[key]))
        first.setdefault(key, place)
    shared = [Repeat(place, first[0, digest]) for digest, place in rows if unpack(place).side and (0, digest) in first]
    return Found(
        repeated=len(repeated),
        first=tuple(sorted(repeated)[:keep]),
        shared=len(shared),
        first_shared=tuple(sorted(shared)[:keep]),
    )


def alike(start: int, *, tails: Iterable[int]) -> list[bytes]:
    """Digests that begin alike for `start` bytes."""
    return [(b"\x07" * start + bytes([tail]) * 32)[:32] for tail in tails]


#: Some digests at random, some that differ late (buckets have to be split), some only in the half that is not kept.
DIGESTS = [*map(sha256, range(12)), *alike(1, tails=range(5)), *alike(7, tails=range(5)), *alike(15, tails=range(5))]


@st.composite
def rows_of_two_sides(draw: st.DrawFn) -> list[tuple[bytes, int]]:
    chosen = draw(st.lists(st.tuples(st.sampled_from(DIGESTS), st.booleans(), st.integers(1, 2**20)), max_size=150))
    lines = [0, 0]
    rows = []
    for digest, held_back, step in chosen:
        lines[held_back] += step
        rows.append((digest, pack(int(held_back), 3 + held_back, lines[held_back])))
    return rows


@given(rows_of_two_sides(), st.integers(1, 60), st.integers(1, 3000), st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_the_answer_does_not_depend_on_the_memory(
    rows: list[tuple[bytes, int]], size: int, memory_bytes: int, keep: int
) -> None:
    want = expected(rows, keep)
    assert found(rows, ENOUGH, size, keep) == want
    assert found(rows, SCARCE, size, keep) == want
    assert found(rows, memory_bytes, size, keep) == want


@given(st.integers(0, 1), st.integers(0, 2**20 - 1), st.integers(0, 2**40 - 1))
def test_a_place_is_a_number_that_orders_by_side_file_and_line(side: int, file: int, line: int) -> None:
    place = pack(side, file, line)
    assert unpack(place) == (side, file, line)
    assert 0 <= place < 2**61
    assert array("Q", [place]).itemsize == 8
    assert (place < pack(0, 7, 7)) == ((side, file, line) < (0, 7, 7))


@pytest.mark.parametrize("wrong", [(2, 0, 0), (-1, 0, 0), (0, 2**20, 0), (0, -1, 0), (0, 0, 2**40), (0, 0, -1)])
def test_a_place_that_does_not_fit_is_refused(wrong: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="a place has"):
        pack(*wrong)


def test_each_repeat_names_the_first_row_and_a_leak_the_training_row() -> None:
    one, two, three = sha256(1), sha256(2), sha256(3)
    train = [(digest, pack(0, 0, line)) for line, digest in enumerate([one, two, one, one], 1)]
    held_back = [(digest, pack(1, 1, line)) for line, digest in enumerate([three, one, three, one], 1)]
    for rows in (train + held_back, held_back + train):
        assert found(rows, ENOUGH) == Found(
            repeated=4,
            first=(
                Repeat(pack(0, 0, 3), pack(0, 0, 1)),
                Repeat(pack(0, 0, 4), pack(0, 0, 1)),
                Repeat(pack(1, 1, 3), pack(1, 1, 1)),
                Repeat(pack(1, 1, 4), pack(1, 1, 2)),
            ),
            shared=2,
            first_shared=(Repeat(pack(1, 1, 2), pack(0, 0, 1)), Repeat(pack(1, 1, 4), pack(0, 0, 1))),
        )


def test_the_first_are_kept_though_more_are_found_than_are_gathered() -> None:
    digests = [sha256(i) for i in range(20_000)]
    rows = [(digest, pack(0, 0, line)) for line, digest in enumerate(digests + digests)]
    got = found(rows, 1 << 20)
    assert got.repeated == 20_000
    assert got.first == tuple(Repeat(20_000 + i, i) for i in range(20))
    assert (got.shared, got.first_shared) == (0, ())
    none = found(rows, 1 << 20, keep=0)
    assert (none.repeated, none.first) == (20_000, ())


def test_nothing_is_found_in_nothing() -> None:
    with Repeats() as repeats:
        repeats.add(b"", b"")
        assert repeats.found() == Found(repeated=0, first=(), shared=0, first_shared=())


def test_rows_may_be_added_after_a_look() -> None:
    row = (sha256("a"), 1)
    for memory_bytes in (SCARCE, ENOUGH):
        with Repeats(memory_bytes=memory_bytes) as repeats:
            for line in range(40):
                repeats.add(row[0], line.to_bytes(8, "little"))
                assert repeats.found().repeated == line


@pytest.mark.parametrize(("digests", "places"), [(31, 8), (32, 7), (64, 8), (32, 16), (0, 8)])
def test_half_a_row_is_refused(digests: int, places: int) -> None:
    with Repeats() as repeats, pytest.raises(ValueError, match="as many digests"):
        repeats.add(bytes(digests), bytes(places))


def on_disk(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def test_little_stays_in_memory_and_much_takes_24_bytes_a_row_until_the_end(tmp_path: Path) -> None:
    assert BYTES_A_ROW == 24
    rows = [(sha256(i), i) for i in range(5000)]
    with Repeats(folder=tmp_path) as repeats:
        repeats.add(*block(rows))
        repeats.found()
        assert list(tmp_path.iterdir()) == []
    with Repeats(memory_bytes=LITTLE, folder=tmp_path) as repeats:
        repeats.add(*block(rows))
        repeats.found()
        assert on_disk(tmp_path) == 24 * 5000
        assert len([file for file in tmp_path.rglob("*") if file.is_file()]) == 256
    assert list(tmp_path.iterdir()) == []


def test_an_error_inside_removes_the_files_too(tmp_path: Path) -> None:
    def fill() -> None:
        with Repeats(memory_bytes=SCARCE, folder=tmp_path) as repeats:
            repeats.add(*block((sha256(i), i) for i in range(100)))
            assert list(tmp_path.iterdir()) != []
            raise KeyError

    with pytest.raises(KeyError):
        fill()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("different", [60_000, 6_000, 1], ids=["all differ", "ten of each", "all the same"])
def test_memory_is_bounded(different: int, tmp_path: Path) -> None:
    memory_bytes, rows, size = 1 << 20, 60_000, 500
    digests = [sha256(i) for i in range(different)] * (rows // different)
    tracemalloc.start()
    try:
        with Repeats(memory_bytes=memory_bytes, folder=tmp_path) as repeats:
            given_out = tracemalloc.get_traced_memory()[0]
            for start in range(0, rows, size):
                repeats.add(b"".join(digests[start : start + size]), array("Q", range(start, start + size)).tobytes())
            result = repeats.found()
        peak = tracemalloc.get_traced_memory()[1] - given_out
    finally:
        tracemalloc.stop()
    assert result.repeated == rows - different
    # The rest is for open files, lists of buckets, samples, and the interpreter's own table of names. All rows at
    # once would take 12 MiB.
    assert peak < memory_bytes + (4 << 20)


def test_what_is_in_memory_is_all_there_may_be(tmp_path: Path) -> None:
    """At its fullest, just before it would go to disk."""
    memory_bytes = 4 << 20
    rows = memory_bytes // 256
    for digests in (list(map(sha256, range(rows))), [sha256(i // 2) for i in range(rows)], [sha256(0)] * rows):
        whole = b"".join(digests), array("Q", range(rows)).tobytes()
        tracemalloc.start()
        try:
            with Repeats(memory_bytes=memory_bytes, folder=tmp_path) as repeats:
                repeats.add(*whole)
                repeats.found()
                assert list(tmp_path.iterdir()) == []
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < memory_bytes


def test_a_full_disk_is_said(tmp_path: Path) -> None:
    rows = block((sha256(i), i) for i in range(5000))
    with Repeats(memory_bytes=LITTLE, folder=tmp_path) as repeats:
        repeats.add(*rows)
        for file in [file for file in tmp_path.rglob("*") if file.is_file()]:
            file.unlink()
            file.symlink_to("/dev/full")
        with pytest.raises(StateError) as caught:
            repeats.add(*rows)
    assert [problem.code for problem in caught.value.problems] == ["E504"]
    assert str(tmp_path) in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_one_is_said(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    for folder in (file, file / "below"):
        with Repeats(memory_bytes=SCARCE, folder=folder) as repeats, pytest.raises(StateError) as caught:
            repeats.add(*block((sha256(i), i) for i in range(100)))
        assert [problem.code for problem in caught.value.problems] == ["E501"]


def test_what_a_killed_process_left_is_removed_after_a_day(tmp_path: Path) -> None:
    def run() -> None:
        with Repeats(memory_bytes=SCARCE, folder=tmp_path / "new") as repeats:
            repeats.add(*block((sha256(i), i) for i in range(100)))
            killed.extend(path for path in (tmp_path / "new").iterdir() if path not in killed)
            left.append([path.exists() for path in killed])

    killed: list[Path] = []
    left: list[list[bool]] = []
    run()
    killed[0].mkdir()
    (killed[0] / "07").write_bytes(b"")
    run()
    os.utime(killed[0] / "07", (0, 0))
    os.utime(killed[0], (0, 0))
    run()
    assert left == [[True], [True, True], [False, False, True]]
