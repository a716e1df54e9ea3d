"""Near duplicates: what is near, what is not, who is grouped with whom, and what it costs at the worst."""

import os
import random
import subprocess
import sys
import tracemalloc
from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune.data.near import BYTES_A_ROW, MEMORY_A_ROW, Near, NearFound, Pair, available
from finetune.data.repeats import pack, unpack
from finetune.data.sketches import DIGEST, LONGEST, SLOTS, Sketches, sketches
from finetune.errors import StateError

#: What chunks, buffers and the interpreter's own table of names take, apart from what grows with the rows.
CONSTANT = 12 << 20


def found(texts: Sequence[str], places: Sequence[int] | None = None, *, threshold: float = 0.9) -> NearFound:
    with Near(threshold=threshold) as near:
        near.add(texts, range(len(texts)) if places is None else places)
        return near.found(keep=len(texts))


def similarity(one: str, other: str) -> float | None:
    """What is estimated of two texts; None when they are not found to be near."""
    pairs = found([one, other], threshold=0.7).first
    return pairs[0].similarity if pairs else None


def prose(words: random.Random, count: int) -> list[str]:
    return ["".join(words.choices("abcdefghijklmnopqrstuvwxyz", k=words.randint(2, 9))) for _ in range(count)]


def jaccard(one: Sequence[str], other: Sequence[str]) -> float:
    """Exactly, of texts of three words and more."""
    sets = [set(zip(words, words[1:], words[2:], strict=False)) for words in (one, other)]
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


@pytest.mark.parametrize("threshold", [0.7, 0.8, 0.9, 0.95])
def test_what_is_clearly_near_is_found_and_what_is_clearly_not_is_not(threshold: float) -> None:
    chance = random.Random(threshold)
    pairs = []
    for _ in range(1500):
        one = prose(chance, chance.choice([12, 40, 100, 300, 600]))
        other = list(one)
        # So that the similarities lie on both sides of the threshold, most of them close to it.
        for _ in range(round(len(one) * (1 - threshold) * chance.random() ** 2)):
            other[chance.randrange(len(other))] = "changed" + str(chance.random())
        pairs.append((one, other))
    texts = [" ".join(words) for pair in pairs for words in pair]
    told = {pair.of // 2: pair for pair in found(texts, threshold=threshold).first}
    assert all(pair.place == pair.of + 1 for pair in told.values())

    exact = [jaccard(*pair) if pair[0] != pair[1] else None for pair in pairs]
    above = [number for number, value in enumerate(exact) if value is not None and value >= threshold + 0.03]
    below = [number for number, value in enumerate(exact) if value is not None and value < threshold - 0.1]
    assert len(above) > 50
    assert sum(number in told for number in above) >= 0.95 * len(above)
    assert len(below) > 100
    assert not any(number in told for number in below)
    errors = [abs(told[number].similarity - (exact[number] or 0)) for number in told]
    assert max(errors) < 0.08
    assert sum(errors) / len(errors) < 0.02


LONG = " ".join(prose(random.Random(1), 80))
CHINESE = "".join(random.Random(2).choices([chr(code) for code in range(0x4E00, 0x4F00)], k=120))
THAI = "".join(random.Random(3).choices([chr(code) for code in range(0x0E01, 0x0E2F)], k=120))
KANA = "".join(random.Random(4).choices([chr(code) for code in range(0x3041, 0x3090)], k=120))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Hello there, World", "hello THERE, world"),
        ("one two three four", "one  two\n\tthree \u00a0four "),
        ("Straße nach Köln", "STRASSE nach KÖLN"),
        ("café au lait", "cafe\u0301 au lait"),
        ("Hello", "hello"),
        ("two words", "Two words"),
        ("ha ha ha ha", "ha ha ha ha ha ha ha"),
        ("今日は", "今 日は"),
        ("使用Python编程", "使用 PYTHON 编程"),
        ("\ud800 lone", "\ud800  lone"),
        (LONG, LONG.upper()),
    ],
)
def test_case_white_space_and_composition_make_no_difference(one: str, other: str) -> None:
    assert similarity(one, other) == 1.0


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What is 12 and 7?", "What is 12 and 8?"),
        ("two words", "words two"),
        ("two words", "two worms"),
        ("one", "two"),
        ("ab", "a b"),
        ("one two", "one two three"),
        ("one two three", "one two four"),
        ("one two three", "one three two"),
        ("今日は", "今日も"),
        (" ".join(LONG.split()[:40]), " ".join(LONG.split()[40:])),
        (LONG, " ".join(reversed(LONG.split()))),
        (CHINESE, "".join(reversed(CHINESE))),
    ],
)
def test_other_words_or_another_order_are_not_near(one: str, other: str) -> None:
    assert similarity(one, other) is None


@pytest.mark.parametrize("text", [CHINESE, THAI, KANA], ids=["Han", "Thai", "Kana"])
def test_a_script_without_spaces_is_not_one_long_word(text: str) -> None:
    changed = text[:60] + "X" + text[61:]
    assert similarity(text, changed) == pytest.approx(115 / 121, abs=0.04)


@pytest.mark.parametrize("texts", [[], [""], ["", " "], ["\n\t", " ", ""], ["", "a", " "], ["a", "b", ""] * 5])
def test_texts_without_a_word_are_near_nothing(texts: list[str]) -> None:
    assert found(texts) == NearFound(groups=0, rows=0, first=(), shared=0, first_shared=(), compared=0)


def test_the_same_text_is_one_row() -> None:
    assert found([LONG] * 50).rows == 0
    near = found([LONG, LONG.upper(), LONG, LONG.upper(), "other", LONG.title()])
    assert (near.groups, near.rows) == (1, 3)
    assert near.first == (Pair(1, 0, 1.0),)


def test_what_is_beyond_the_longest_text_is_not_looked_at() -> None:
    start = "word " * (LONGEST // 5 + 1)
    assert similarity(start + "x" * 10, start + "y" * 10) == 1.0
    assert similarity("a b c " * 10 + "x" * LONGEST, "a b c " * 10 + "y" * LONGEST) is None


def test_near_rows_hang_together_in_groups() -> None:
    chance = random.Random(5)
    rows = []
    for _ in range(3):
        words = prose(chance, 200)
        for step in range(5):
            words[step * 40] = "changed"
            rows.append(" ".join(words))
    lonely = [" ".join(prose(chance, 50)) for _ in range(20)]
    near = found(lonely[:10] + rows + lonely[10:])
    assert (near.groups, near.rows, near.shared) == (3, 15, 0)
    assert [pair.of for pair in near.first] == [10, 15, 20]
    assert [pair.place for pair in near.first] == [11, 16, 21]


def test_pairs_come_in_the_order_of_their_places() -> None:
    near = found(["one", "two", "Two", "lonely", "TWO", "One"])
    assert near.first == (Pair(2, 1, 1.0), Pair(5, 0, 1.0))


def test_validation_rows_that_are_near_to_training_rows_are_told() -> None:
    chance = random.Random(6)
    train = [" ".join(prose(chance, 30)) for _ in range(6)]
    held_back = [train[1].upper(), train[2], *prose(chance, 2), train[3].upper(), train[3].title(), "own", "OWN"]
    train[2] += " " + " ".join(prose(chance, 30))
    rows = [(text, pack(0, 0, line)) for line, text in enumerate(train)]
    rows += [(text, pack(1, 3, line)) for line, text in enumerate(held_back)]
    # On both sides, which is for another to tell.
    rows += [(train[5], pack(1, 3, 90)), (train[5].upper(), pack(0, 0, 91))]
    for order in (rows, rows[::-1], chance.sample(rows, len(rows))):
        near = found(*zip(*order, strict=True))
        assert (near.groups, near.rows, near.shared) == (4, 9, 3)
        of = {unpack(pair.place).line: unpack(pair.of) for pair in near.first_shared}
        assert of == {0: (0, 0, 1), 4: (0, 0, 3), 5: (0, 0, 3)}
        assert [pair.place for pair in near.first_shared] == sorted(pair.place for pair in near.first_shared)


def crafted(rows: Iterable[tuple[int, "np.ndarray[tuple[int], np.dtype[np.uint8]]"]]) -> Sketches:
    """Sketches as wanted instead of texts, from a digest and the slots of each."""
    rows = list(rows)
    digests = np.array([digest for digest, _ in rows], np.uint64).tobytes()
    return Sketches(digests, b"".join(slots.tobytes() for _, slots in rows))


@st.composite
def clusters(draw: st.DrawFn) -> list[tuple[int, int, int, int]]:
    """For each row: its text, its cluster, where it differs from that, and its side."""
    several = st.tuples(st.integers(1, 12), st.integers(1, 3), st.integers(0, 100), st.integers(0, 1))
    return draw(st.lists(several, max_size=16))


@given(clusters(), st.randoms(use_true_random=False), st.integers(1, 16))
@settings(max_examples=80, deadline=None)
def test_groups_are_what_comparing_all_with_all_gives(
    rows: list[tuple[int, int, int, int]], chance: random.Random, size: int
) -> None:
    # One text has one signature. The differences lie behind the slots of the bands, so that all are compared.
    texts = {text: (cluster, start) for text, cluster, start, _ in rows}
    slots = {text: np.full(SLOTS, cluster * 7, np.uint8) for text, (cluster, _) in texts.items()}
    for text, (_, start) in texts.items():
        slots[text][SLOTS - 130 + start : SLOTS - 130 + start + 30] = 200 + text
    places = [pack(side, side, line) for line, (_, _, _, side) in enumerate(rows)]
    order = chance.sample(range(len(rows)), len(rows))
    with Near() as near:
        for begin in range(0, len(order), size):
            block = order[begin : begin + size]
            near.add_sketches(crafted((rows[i][0], slots[rows[i][0]]) for i in block), [places[i] for i in block])
        got = near.found(keep=100)

    lowest = {text: min(place for row, place in zip(rows, places, strict=True) if row[0] == text) for text in texts}
    alike = {(a, b): np.mean(slots[a] == slots[b]) for a, b in combinations(sorted(texts, key=lowest.__getitem__), 2)}
    near_pairs = {pair: value for pair, value in alike.items() if value >= 0.9}
    groups = components(near_pairs)
    assert got.groups == len(groups)
    assert got.rows == sum(map(len, groups))
    assert {pair.of for pair in got.first} == {min(lowest[text] for text in group) for group in groups}
    of_place = {place: text for text, place in lowest.items()}
    for pair in got.first:
        best = max(value for (a, _), value in near_pairs.items() if lowest[a] == pair.of)
        assert pair.similarity == best == near_pairs[of_place[pair.of], of_place[pair.place]]
    with_train = [group for group in groups if any(lowest[text] < pack(1, 0, 0) for text in group)]
    leaked = {lowest[text] for group in with_train for text in group if lowest[text] >= pack(1, 0, 0)}
    assert got.shared == len(leaked)
    assert [pair.place for pair in got.first_shared] == sorted(leaked)
    for pair in got.first_shared:
        group = next(group for group in groups if of_place[pair.place] in group)
        trained = [lowest[text] for text in group if lowest[text] < pack(1, 0, 0)]
        best = max(alike[of_place[place], of_place[pair.place]] for place in trained)
        assert (pair.of in trained, pair.similarity) == (True, best)


def components(pairs: Iterable[tuple[int, int]]) -> list[set[int]]:
    groups: list[set[int]] = []
    for pair in pairs:
        touched = [group for group in groups if group & set(pair)]
        groups = [group for group in groups if group not in touched] + [set(pair).union(*touched)]
    return groups


def test_at_most_so_many_pairs_as_asked_for_are_kept_and_they_are_the_first() -> None:
    texts = [text for i in range(50) for text in (f"text {i}", f"TEXT {i}")]
    places = [pack(line % 2, line % 2, line) for line in range(100)]
    with Near() as near:
        near.add(texts[::-1], places[::-1])
        got = near.found(keep=3)
    assert (got.groups, got.rows, got.shared) == (50, 100, 50)
    assert got.first == got.first_shared == tuple(Pair(pack(1, 1, 2 * i + 1), pack(0, 0, 2 * i), 1.0) for i in range(3))


@pytest.mark.parametrize(("differing", "groups"), [(51, 1), (52, 0)])
def test_the_threshold_itself_is_near(differing: int, groups: int) -> None:
    slots = np.full((2, SLOTS), 3, np.uint8)
    slots[1, SLOTS - differing :] = 4
    with Near(threshold=(SLOTS - 51) / SLOTS) as near:
        near.add_sketches(crafted(enumerate(slots, 1)), [1, 2])
        assert near.found().groups == groups


def test_in_a_full_bucket_a_row_meets_the_sixteen_before_it() -> None:
    slots = np.random.default_rng(9).integers(0, 256, (18, SLOTS), np.uint8)
    slots[:, :25] = 3
    slots[17] = slots[1]
    # So much that the two meet in the first band only.
    slots[17, 25::15] += 1
    with Near() as near:
        near.add_sketches(crafted(enumerate(slots, 1)), range(18))
        assert near.found().first == (Pair(17, 1, 479 / 512),)


def many(rows: int, *, alike: bool) -> Iterator[tuple[Sketches, range]]:
    """Rows that all lie in one bucket: near to each other, or not at all."""
    chance = np.random.default_rng(7)
    for start in range(0, rows, 10_000):
        if alike:
            slots = np.full((10_000, SLOTS), 3, np.uint8)
            np.put_along_axis(slots, chance.integers(0, SLOTS, (10_000, 8)), 4, axis=1)
        else:
            slots = chance.integers(0, 256, (10_000, SLOTS), np.uint8)
            slots[:, :25] = 3
        places = range(start, start + 10_000)
        yield Sketches(np.arange(start + 1, start + 10_001, dtype=np.uint64).tobytes(), slots.tobytes()), places


@pytest.mark.parametrize(("alike", "a_row"), [(True, 1.05), (False, 17)])
def test_a_hundred_thousand_rows_in_one_bucket_take_linear_time_and_little_memory(
    alike: bool, a_row: float, tmp_path: Path
) -> None:
    rows = 100_000
    with Near(folder=tmp_path) as near:
        for made, places in many(rows, alike=alike):
            near.add_sketches(made, places)
        tracemalloc.start()
        try:
            got = near.found()
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert (got.groups, got.rows) == ((1, rows) if alike else (0, 0))
    assert rows - 1 <= got.compared <= a_row * rows
    assert peak < rows * MEMORY_A_ROW + CONSTANT, peak / rows


def test_memory_is_bounded_while_long_texts_are_hashed() -> None:
    texts = ["word " * 40_000] * 30
    sketches(["warm"])
    tracemalloc.start()
    try:
        sketches(texts)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < CONSTANT + (4 << 20)


def test_memory_is_bounded_while_rows_are_added(tmp_path: Path) -> None:
    block = [f"{LONG} {i}" for i in range(1000)]
    with Near(folder=tmp_path) as near:
        near.add(block, range(1000))
        tracemalloc.start()
        try:
            for start in range(1000, 4000, 1000):
                near.add(block, range(start, start + 1000))
            after, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert after < 4 << 20
    assert peak < CONSTANT


def test_the_outcome_does_not_depend_on_blocks_or_on_the_process() -> None:
    chance = random.Random(8)
    texts = [" ".join(prose(chance, 30)) for _ in range(40)]
    texts += [f"{text} {i}" for i, text in enumerate(texts)]
    texts += [CHINESE, "", "x" * 300_000, "short", "Short"]
    apart = [sketches([text]) for text in texts]
    assert sketches(texts) == Sketches(b"".join(one.digests for one in apart), b"".join(one[1] for one in apart))
    program = "import sys; from finetune.data.sketches import sketches; print(*map(bytes.hex, sketches(sys.argv[1:])))"
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", program, *texts[:4]],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.stdout.split() == [half.hex() for half in sketches(texts[:4])], done.stderr
    wants = found(texts)
    assert wants.groups > 30
    for size in (1, 7):
        with Near() as near:
            for start in range(0, len(texts), size):
                near.add(texts[start : start + size], range(start, min(start + size, len(texts))))
            assert near.found(keep=len(texts)) == wants
            assert near.found(keep=len(texts)) == wants


def test_no_thread_is_started() -> None:
    sketches(["warm"])
    before = psutil.Process().num_threads()
    sketches([f"{LONG} {i}" for i in range(1000)])
    assert psutil.Process().num_threads() == before


def on_disk(folder: Path) -> list[int]:
    return [file.stat().st_size for file in folder.rglob("*") if file.is_file()]


def test_rows_take_so_many_bytes_on_disk_until_the_end(tmp_path: Path) -> None:
    with Near(folder=tmp_path) as near:
        assert near.found().groups == 0
        assert on_disk(tmp_path) == []
        near.add([f"row {i}" for i in range(500)], range(500))
        near.found()
        assert sum(on_disk(tmp_path)) == 500 * BYTES_A_ROW
    near.close()
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_takes_no_more_is_said(tmp_path: Path) -> None:
    program = """
import pathlib, resource, sys
from finetune.data.near import Near
from finetune.errors import StateError

resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
with Near(folder=pathlib.Path(sys.argv[1])) as near:
    try:
        for start in range(0, 2000, 10):
            near.add([f"row {start + i}" for i in range(10)], range(10))
    except StateError as error:
        sys.stdout.write(error.problems[0].code)
"""
    done = subprocess.run([sys.executable, "-c", program, tmp_path], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("E501", "")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_one_is_said(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    with Near(folder=file) as near, pytest.raises(StateError) as caught:
        near.add(["a"], [1])
    assert [problem.code for problem in caught.value.problems] == ["E501"]


@pytest.mark.parametrize("threshold", [0.69, 1.01, 0.0, -1.0, float("nan")])
def test_a_threshold_out_of_bounds_is_refused(threshold: float) -> None:
    with pytest.raises(ValueError, match="threshold"):
        Near(threshold=threshold)


def test_texts_and_places_go_together() -> None:
    with Near() as near, pytest.raises(ValueError, match="as many"):
        near.add(["a", "b"], [1])


@pytest.mark.parametrize("name", ["numpy", "rensa"])
def test_a_missing_extra_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert available() is None
    monkeypatch.setitem(sys.modules, name, None)
    problem = available()
    assert problem is not None
    assert (problem.code, problem.level) == ("E251", "warning")
    assert "ft-orchestrator[data]" in problem.fix


def test_a_look_at_what_is_there_imports_nothing_heavy() -> None:
    program = "import sys; from finetune.data import near; near.available(); print({'numpy', 'rensa'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("set()\n", "")


def test_every_digest_is_of_the_whole_text() -> None:
    long = "x" * LONGEST
    made = sketches([long + "1", long + "2", "\ud800", ""])
    digests = [made.digests[i : i + DIGEST] for i in range(0, 4 * DIGEST, DIGEST)]
    assert len(set(digests)) == 4
    assert digests[3] == bytes(DIGEST)
