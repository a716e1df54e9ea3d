"""Splitting, digests, and the folder that prepared data is written to."""

import hashlib
import json
import multiprocessing
import os
import random
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune import data
from finetune.data import DataReport, DataRequest
from finetune.data.example import Chat, Example
from finetune.data.measure import counted, longest, total
from finetune.data.tokens import Count, Guess, Range, Uncounted
from finetune.errors import DataError, StateError
from finetune.ports import PreparedData


def inspect(train: Path, validation: Path | None = None, split: float | None = None, **how: Any) -> DataReport:
    return data.inspect(request(train, validation, split), **how)


def request(train: Path, validation: Path | None = None, split: float | None = None) -> DataRequest:
    named = None if validation is None else str(validation)
    return DataRequest(train=str(train), folder=Path(), validation=named, split=split)


def prepare(train: Path, validation: Path | None, split: float | None, out: Path) -> PreparedData:
    return data.prepare(request(train, validation, split), out)


def chat(text: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}, {"role": "assistant", "content": f"é\u2028{text}"}]}


def text_of(row: dict[str, Any]) -> str:
    return str(row["messages"][0]["content"])


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read(path: Path | None) -> list[Any]:
    assert path is not None
    return [json.loads(line) for line in path.read_bytes().split(b"\n") if line]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write(tmp_path / "rows.jsonl", [chat(str(number)) for number in range(200)])


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "home" / "data"


class Odd:
    """Counts a row's letters, and those that hold a 7 not at all."""

    name, exact = "odd", False

    def count(self, rows: Sequence[Example]) -> list[Count | Uncounted]:
        texts = [str(row.messages[0].content) for row in rows if isinstance(row, Chat)]
        ranges = [Range(len(text), 2 * len(text)) for text in texts]
        return [Uncounted("no") if "7" in text else Count(one, one) for text, one in zip(texts, ranges, strict=True)]

    def learned(self, rows: Sequence[Example]) -> list[Range | Uncounted]:
        raise NotImplementedError


def test_tokens_are_counted_of_what_would_be_written(tmp_path: Path, out: Path) -> None:
    """Training rows only, of several blocks, as each counter counts them; and nothing is left anywhere."""
    # A key that is left out takes no part in what is written.
    rows = [{**chat(str(number) * 20), "id": number} for number in range(20_000)]
    file = write(tmp_path / "rows.jsonl", rows)
    asked, read_so_far = request(file, None, 0.25), list[int]()
    before = sorted(tmp_path.rglob("*"))

    counters = {"a": Odd(), "b": Guess()}
    report, ranges, longest_by = counted(asked, counters, lambda done, total: read_so_far.append(done))

    assert sorted(tmp_path.rglob("*")) == before
    assert read_so_far[-1] == file.stat().st_size
    made = data.prepare(asked, out)
    assert (report.train_rows, report.validation_rows) == (made.train_rows, made.validation_rows)
    assert ranges == {
        name: total(made.train, made.format, tokens, lambda done, of: None)
        for name, tokens in (("a", Odd()), ("b", Guess()))
    }
    assert longest_by("b") == longest(made.train, made.format, Guess()) > 0
    written = made.train.read_bytes().split(b"\n")[:-1]
    texts = [text_of(json.loads(line)) for line in written]
    most = [len(line) if "7" in text else 2 * len(text) for line, text in zip(written, texts, strict=True)]
    assert ranges["a"] == (sum(len(text) for text in texts if "7" not in text), sum(most))


def test_a_split_parts_the_rows_and_keeps_their_order(file: Path, out: Path) -> None:
    made = prepare(file, None, 0.25, out)

    train, validation = read(made.train), read(made.validation)
    assert (made.train_rows, made.validation_rows) == (len(train), len(validation))
    assert 25 <= len(validation) <= 75
    numbers = [int(text_of(row)) for row in train]
    assert numbers == sorted(numbers)
    assert sorted(map(text_of, train + validation)) == sorted(map(text_of, read(file)))
    assert made.train.parent == out / f"{made.digest}.openai"
    assert made.train.read_bytes().startswith(
        b'{"messages":[{"role":"user","content":"0"},{"role":"assistant","content":"\xc3\xa9'
    )


def test_what_is_inspected_is_what_is_prepared(file: Path, out: Path) -> None:
    report, made = inspect(file, None, 0.25), prepare(file, None, 0.25, out)

    assert (report.digest, report.train_rows, report.validation_rows) == (
        made.digest, made.train_rows, made.validation_rows,
    )  # fmt: skip
    assert report.problems == ()


def test_what_does_not_stand_in_the_way_is_handed_on(tmp_path: Path, out: Path) -> None:
    file = write(tmp_path / "rows.jsonl", [chat("x"), chat("y"), {**chat("x"), "id": 7}])
    other = write(tmp_path / "other.jsonl", [chat("y")])

    made = prepare(file, other, None, out)

    assert [each.code for each in made.warnings] == ["E219", "E215", "E217"]
    assert made.warnings == inspect(file, other, None).problems


def test_without_validation_there_is_no_such_file(file: Path, out: Path) -> None:
    made = prepare(file, None, None, out)

    assert (made.validation, made.validation_rows, made.train_rows) == (None, 0, 200)
    assert os.listdir(made.train.parent) == ["train.jsonl"]


def test_a_validation_file_is_kept_whole(file: Path, tmp_path: Path, out: Path) -> None:
    other = write(tmp_path / "other.jsonl", [chat("x"), chat("y"), chat("x")])

    made = prepare(file, other, None, out)

    assert read(made.validation) == read(other)
    assert (made.train_rows, made.validation_rows) == (200, 3)


def test_weights_are_kept_and_harmless_keys_are_not(tmp_path: Path, out: Path) -> None:
    row = chat("x")
    row["messages"].insert(1, {"role": "assistant", "content": "", "weight": 0})
    row["messages"].insert(2, {"role": "system", "content": ""})
    file = write(tmp_path / "rows.jsonl", [{**row, "id": 7, "source": "crm"}])

    assert read(prepare(file, None, None, out).train) == [row]


def test_preparing_again_changes_nothing(file: Path, out: Path) -> None:
    first = prepare(file, None, 0.25, out)
    made = first.train.stat().st_ino

    second = prepare(file, None, 0.25, out)

    assert second == first
    assert os.listdir(out) == [f"{first.digest}.openai"]
    assert made > 0


def test_a_damaged_folder_is_mended(file: Path, out: Path) -> None:
    first = prepare(file, None, 0.25, out)
    content = first.train.read_bytes()
    first.train.write_bytes(b"damaged")
    assert first.validation is not None
    first.validation.unlink()

    second = prepare(file, None, 0.25, out)

    assert second.train.read_bytes() == content
    assert second.validation is not None
    assert second.validation.exists()


def test_bad_rows_leave_nothing_behind(file: Path, out: Path) -> None:
    file.write_text(file.read_text() + "{}\n[]\n")

    with pytest.raises(DataError) as caught:
        prepare(file, None, 0.25, out)

    assert [each.code for each in caught.value.problems] == ["E210", "E208"]
    assert os.listdir(out) == []


def test_what_a_killed_process_left_goes_after_a_day_and_nothing_else(file: Path, out: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path; from finetune import data\n"
        "die = lambda read, total: os.kill(os.getpid(), signal.SIGKILL)\n"
        "asked = data.DataRequest(train=sys.argv[1], folder=Path())\n"
        "data.prepare(asked, Path(sys.argv[2]), progress=die)"
    )
    assert subprocess.run([sys.executable, "-c", code, file, out], check=False).returncode == -9
    (left,) = out.iterdir()
    filled = out / f"{left.name}2"
    filled.mkdir()
    (filled / "train.jsonl").touch()
    digest = prepare(file, None, None, out).digest + ".openai"
    assert {each.name for each in out.iterdir()} == {left.name, filled.name, digest}

    long_ago = time.time() - 90_000
    for path in (left / "train.jsonl", left, filled, out / digest / "train.jsonl", out / digest):
        os.utime(path, (long_ago, long_ago))
    prepare(file, None, None, out)

    assert {each.name for each in out.iterdir()} == {filled.name, digest}


def test_a_place_that_cannot_be_written(file: Path, tmp_path: Path) -> None:
    with pytest.raises(StateError) as caught:
        prepare(file, None, None, file / "below")

    assert caught.value.problems[0].code == "E501"


def test_a_full_disk(file: Path, tmp_path: Path) -> None:
    # A limit to the size of files stands in for the end of the disk: the write fails half way.
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        codes = pool.apply(_limited, (file, tmp_path / "out"))

    assert codes == ["E501"]
    assert os.listdir(tmp_path / "out") == []


def _limited(file: Path, out: Path) -> list[str]:
    import resource
    import signal

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
    try:
        prepare(file, None, None, out)
    except StateError as error:
        return [problem.code for problem in error.problems]
    return []


def test_many_at_once_make_one_folder(file: Path, out: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        made = pool.starmap(prepare, [(file, None, 0.25, out)] * 8, chunksize=1)

    assert len(set(made)) == 1
    assert os.listdir(out) == [f"{made[0].digest}.openai"]
    assert len(read(made[0].train)) == made[0].train_rows


def test_the_digest_is_of_rows_order_and_side(file: Path, tmp_path: Path) -> None:
    rows = read(file)
    two = [rows[:100], rows[100:]]
    files = [write(tmp_path / f"{name}.jsonl", part) for name, part in zip("ab", two, strict=True)]

    digests = {
        inspect(file, None, None).digest,
        inspect(file, None, 0.25).digest,
        inspect(write(tmp_path / "reversed.jsonl", rows[::-1]), None, None).digest,
        inspect(files[0], files[1], None).digest,
        inspect(files[1], files[0], None).digest,
        inspect(files[0], None, None).digest,
    }

    assert len(digests) == 6


def test_the_digest_does_not_change_between_versions(tmp_path: Path) -> None:
    file = write(tmp_path / "rows.jsonl", [chat("a"), chat("b")])

    names = b"".join(
        hashlib.sha256(
            b'{"messages":[{"role":"user","content":"%s"},{"role":"assistant","content":"\xc3\xa9\xe2\x80\xa8%s"}]}'
            % (text, text)
        ).digest()
        for text in (b"a", b"b")
    )
    told = f"ft prepared data 2\ntrain {hashlib.sha256(names).hexdigest()}\nvalidation none\n"
    assert inspect(file, None, None).digest == hashlib.sha256(told.encode()).hexdigest()


def test_memory_does_not_grow_with_the_size_of_rows(tmp_path: Path, out: Path) -> None:
    file = tmp_path / "rows.jsonl"
    with file.open("w") as rows:
        for number in range(1600):
            rows.write(json.dumps(chat(f"{number} " + "x" * 50_000)) + "\n")

    tracemalloc.start()
    try:
        prepare(file, None, 0.25, out)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert file.stat().st_size > 80_000_000
    assert peak < 60_000_000


words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=5)
corpora = st.lists(words, min_size=2, max_size=30)


def sides(made: PreparedData) -> dict[str, set[str]]:
    return {
        side: {text_of(row) for row in read(path)}
        for side, path in (("train", made.train), ("validation", made.validation))
    }


@settings(max_examples=30, deadline=None)
@given(texts=corpora, more=corpora, split=st.floats(0.2, 0.8), seed=st.integers(0, 99))
def test_a_row_stays_on_its_side_when_the_file_grows(
    texts: list[str], more: list[str], split: float, seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("grows")
    grown = [*texts, *more]
    random.Random(seed).shuffle(grown)
    try:
        before = sides(prepare(write(folder / "a.jsonl", [chat(text) for text in texts]), None, split, folder))
    except DataError as error:
        assert [each.code for each in error.problems] == ["E216"]  # noqa: PT017  (a small file may have one side)
        return
    after = sides(prepare(write(folder / "b.jsonl", [chat(text) for text in grown]), None, split, folder))

    assert before["train"] <= after["train"]
    assert before["validation"] <= after["validation"]
    assert not after["train"] & after["validation"]


@settings(max_examples=30, deadline=None)
@given(texts=corpora, seed=st.integers(0, 99), blanks=st.sampled_from(["", " ", "  \t"]))
def test_the_digest_is_of_what_rows_say_and_not_of_how(
    texts: list[str], seed: int, blanks: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("same")
    chance = random.Random(seed)

    def otherwise(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: otherwise(value[key]) for key in chance.sample(sorted(value), len(value))}
        return [otherwise(each) for each in value] if isinstance(value, list) else value

    plain = write(folder / "plain.jsonl", [chat(text) for text in texts])
    other = folder / "other.jsonl"
    lines = [
        json.dumps(
            otherwise({**chat(text), "id": at}), ensure_ascii=chance.random() < 0.5, separators=(blanks + ",", ": ")
        )
        for at, text in enumerate(texts)
    ]
    other.write_bytes("\r\n\n".join(lines).encode())

    assert inspect(other, None, None).digest == inspect(plain, None, None).digest
