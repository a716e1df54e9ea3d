"""Places on other machines without going there: what may be asked for, and what a message never shows."""

import sys
from pathlib import Path

import pytest

from tests.support.sources import read

SPECS = [
    "s3://bucket/rows.jsonl",
    "s3://bucket/folder/*.jsonl",
    "gs://bucket/folder",
    "https://example.com/rows.jsonl",
    "http://127.0.0.1:1/rows.jsonl",
    "http://localhost/rows.jsonl",
    "http://[::1]:8000/rows.jsonl",
    "HTTPS://example.com/rows.jsonl",
    "hf:owner/name",
    "hf:owner/na-me_2.0?config=a&split=train&revision=refs/pr/1",
]


@pytest.mark.parametrize("spec", SPECS)
def test_nobody_is_asked_unless_the_user_says_so(tmp_path: Path, spec: str) -> None:
    got = read(spec, tmp_path)

    assert got.places == []
    (problem,) = got.problems
    assert (problem.code, problem.level) == ("E231", "warning")
    assert "--fetch" in problem.fix
    assert problem.file == spec


@pytest.mark.parametrize("fetch", [True, False])
@pytest.mark.parametrize(
    ("spec", "fix"),
    [
        ("http://example.com/rows.jsonl", "https://"),
        ("http://10.0.0.1/rows.jsonl", "https://"),
        ("http://127.0.0.1.example.com/rows.jsonl", "https://"),
        ("ftp://example.com/rows.jsonl", "copy"),
        ("file:///tmp/rows.jsonl", "path alone"),
        ("abfs://box/rows.jsonl", "copy"),
        ("s3:///rows.jsonl", "check"),
        ("https://", "check"),
        ("https://[::1/rows.jsonl", "check"),
        ("s3://key:secret@bucket/rows.jsonl", "remove"),
        ("hf:", "hf:owner/name"),
        ("hf:name", "hf:owner/name"),
        ("hf:a/b/c", "hf:owner/name"),
        ("hf:../up", "hf:owner/name"),
        ("hf:owner/name?spilt=train", "hf:owner/name"),
        ("hf:owner/name?split=", "hf:owner/name"),
        ("hf:owner/name?split", "hf:owner/name"),
        ("hf://datasets/owner/name", "hf:owner/name"),
    ],
)
def test_an_address_that_is_not_read_is_told_at_once(tmp_path: Path, spec: str, fix: str, fetch: bool) -> None:
    got = read(spec, tmp_path, fetch=fetch)

    assert got.places == []
    assert got.faults == [("E202", None)]
    assert fix in got.fault.fix


@pytest.mark.parametrize("fetch", [True, False])
@pytest.mark.parametrize(
    "spec",
    [
        "https://user:topsecret@127.0.0.1:1/rows.jsonl",
        "https://user:topsecret/topsecret@127.0.0.1:1/rows.jsonl",
        "https://topsecret@127.0.0.1:1/rows.jsonl#topsecret",
        "https://127.0.0.1:1/rows.jsonl?X-Amz-Signature=topsecret",
        "http://user:topsecret@example.com/rows.jsonl?sig=topsecret",
        "s3://user:topsecret@bucket/rows.jsonl",
        "ftp://user:topsecret@bucket/rows.jsonl",
    ],
)
def test_no_secret_gets_into_a_message(tmp_path: Path, spec: str, fetch: bool) -> None:
    got = read(spec, tmp_path, fetch=fetch)

    assert got.problems
    assert "topsecret" not in repr(got.problems)


@pytest.mark.parametrize(
    ("spec", "module"), [("s3://b/k.jsonl", "s3fs"), ("gs://b/k.jsonl", "gcsfs.core"), ("hf:a/b", "datasets")]
)
def test_without_the_library(tmp_path: Path, spec: str, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)

    got = read(spec, tmp_path, fetch=True)

    assert got.faults == [("E234", None)]
    assert f"`{module.partition('.')[0]}`" in got.fault.why
    assert "ft-orchestrator[data]" in got.fault.fix


def test_the_web_without_its_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fsspec.implementations.http", None)

    assert read("https://127.0.0.1:1/rows.jsonl", tmp_path, fetch=True).faults == [("E234", None)]


def test_parquet_without_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "rows.parquet").write_bytes(b"PAR1 and more")
    monkeypatch.setitem(sys.modules, "pyarrow", None)

    assert read("rows.parquet", tmp_path).faults == [("E234", None)]
