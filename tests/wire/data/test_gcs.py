"""Data in Google Cloud Storage: against a stand-in for its JSON API."""

import io
import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from finetune.data.sources import blocks, places
from finetune.errors import Problem
from tests.support.gcs import Gcs
from tests.support.servers import free_port
from tests.support.sources import MIB, read

ROWS = [{"n": n, "text": f"row {n} " * 20} for n in range(20_000)]
TEXT = "".join(json.dumps(row) + "\n" for row in ROWS).encode()


@pytest.fixture
def gcs(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gcs]:
    with Gcs() as store:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", store.url)
        store.buckets["box"] = {}
        yield store


@pytest.mark.parametrize("target_bytes", [100_000, 4 * MIB])
def test_an_object(gcs: Gcs, tmp_path: Path, target_bytes: int) -> None:
    gcs.buckets["box"]["d/rows of all.jsonl"] = TEXT

    got = read("gs://box/d/rows of all.jsonl", tmp_path, fetch=True, target_bytes=target_bytes)

    assert got.rows == ROWS
    assert got.problems == []
    assert got.files == ["gs://box/d/rows of all.jsonl"]
    assert (got.places[0].kind, got.places[0].size) == ("jsonl", len(TEXT))
    assert sum(block.read for block in got.blocks) == len(TEXT)


def test_an_object_larger_than_what_is_read_ahead(gcs: Gcs, tmp_path: Path) -> None:
    gcs.buckets["box"]["rows.jsonl"] = TEXT * 6

    assert read("gs://box/rows.jsonl", tmp_path, fetch=True).rows == ROWS * 6


def test_parquet(gcs: Gcs, tmp_path: Path) -> None:
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(ROWS), out)
    gcs.buckets["box"]["rows.parquet"] = out.getvalue()

    assert read("gs://box/rows.parquet", tmp_path, fetch=True).rows == ROWS


@pytest.mark.parametrize("spec", ["gs://box/d", "gs://box/d/"])
def test_a_folder(gcs: Gcs, tmp_path: Path, spec: str) -> None:
    names = ["d/b.jsonl", "d/a/c.jsonl", "d/a/d.jsonl", "d/a/e.jsonl", "d/.hidden.jsonl", "d/README.md", "dd/x.jsonl"]
    gcs.buckets["box"] = {name: b'{"a": 1}\n' for name in names} | {"d/": b""}

    got = read(spec, tmp_path, fetch=True)

    assert got.files == [f"gs://box/d/{name}.jsonl" for name in ("a/c", "a/d", "a/e", "b")]
    assert len(got.rows) == 4
    assert got.warnings == ["E230"]
    assert "`.hidden.jsonl`, `README.md`" in got.problems[0].what


def test_a_bucket(gcs: Gcs, tmp_path: Path) -> None:
    gcs.buckets["box"] = {"a.jsonl": b"{}\n", "d/b.csv": b"x\n1\n"}

    assert read("gs://box", tmp_path, fetch=True).files == ["gs://box/a.jsonl", "gs://box/d/b.csv"]


@pytest.mark.parametrize(
    ("spec", "files"),
    [
        ("gs://box/d/*.jsonl", ["gs://box/d/a.jsonl", "gs://box/d/b.jsonl"]),
        ("gs://box/**/c.jsonl", ["gs://box/d/x/c.jsonl"]),
        ("gs://box/d/[b].jsonl", ["gs://box/d/b.jsonl"]),
    ],
)
def test_a_pattern(gcs: Gcs, tmp_path: Path, spec: str, files: list[str]) -> None:
    gcs.buckets["box"] = {name: b"{}\n" for name in ("d/a.jsonl", "d/b.jsonl", "d/x/c.jsonl")}

    got = read(spec, tmp_path, fetch=True)

    assert got.files == files
    assert got.problems == []


@pytest.mark.parametrize("spec", ["gs://box/*.jsonl", "gs://box/nowhere/**"])
def test_a_pattern_without_data(gcs: Gcs, tmp_path: Path, spec: str) -> None:
    assert read(spec, tmp_path, fetch=True).faults == [("E229", None)]


@pytest.mark.parametrize(
    "spec", ["gs://box/nowhere.jsonl", "gs://nobox/rows.jsonl", "gs://nobox", "gs://nobox/*.jsonl"]
)
def test_what_is_not_there(gcs: Gcs, tmp_path: Path, spec: str) -> None:
    got = read(spec, tmp_path, fetch=True)

    assert got.places == []
    assert got.fault.code in ("E201", "E229")


def test_an_object_that_changes_while_it_is_read(gcs: Gcs, tmp_path: Path) -> None:
    gcs.buckets["box"]["rows.jsonl"] = TEXT
    found: list[Problem] = []
    (place,) = places("gs://box/rows.jsonl", tmp_path, fetch=True, found=found.append)

    rest = blocks(place, found.append, target_bytes=100_000)
    next(rest)
    gcs.buckets["box"]["rows.jsonl"] = TEXT.replace(b"row", b"ROW")
    list(rest)

    assert [each.code for each in found] == ["E224"]


@pytest.mark.parametrize("status", [401, 403])
def test_a_bucket_that_may_not_be_read(gcs: Gcs, tmp_path: Path, status: int) -> None:
    gcs.down = status

    got = read("gs://box/rows.jsonl", tmp_path, fetch=True)

    assert got.faults == [("E233", None)]
    assert "gcloud auth" in got.fault.fix
    assert len(gcs.requests) < 5


@pytest.mark.parametrize("status", [500, 503])
def test_a_server_that_fails_is_asked_three_times(
    gcs: Gcs, tmp_path: Path, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    gcs.down = status

    got = read("gs://box/rows.jsonl", tmp_path, fetch=True)

    assert got.faults == [("E232", None)]
    # It asks for an object and for a folder of that name at the same time.
    assert 3 <= len(gcs.requests) <= 6
    assert caplog.records == []


def test_a_server_that_fails_for_a_moment(gcs: Gcs, tmp_path: Path) -> None:
    gcs.buckets["box"]["rows.jsonl"] = TEXT * 3
    found: list[Problem] = []
    (place,) = places("gs://box/rows.jsonl", tmp_path, fetch=True, found=found.append)
    rows = 0
    for block in blocks(place, found.append, target_bytes=100_000):
        rows += len(block.rows)
        # Whatever is asked next fails once, and then works: the next part, or what the object is in the end.
        gcs.failing = [503]

    assert found == []
    assert rows == 3 * len(ROWS)
    assert gcs.failing == []
    assert len(gcs.requests) > 5


def test_nobody_listens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{free_port()}")

    got = read("gs://box/rows.jsonl", tmp_path, fetch=True)

    assert got.faults == [("E232", None)]
    assert caplog.records == []
