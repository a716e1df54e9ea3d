"""Data in S3: against moto's server, and against servers that fail as S3 does."""

import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from finetune.data.sources import blocks, places
from finetune.errors import Problem
from tests.support.servers import free_port
from tests.support.sources import MIB, read
from tests.support.web import Web, content, in_turn, status

ROWS = [{"n": n, "text": f"row {n} " * 20} for n in range(20_000)]
TEXT = "".join(json.dumps(row) + "\n" for row in ROWS).encode()

pytestmark = pytest.mark.usefixtures("account")


def put(client: Any, **objects: bytes) -> None:
    for key, body in objects.items():
        client.put_object(Bucket="box", Key=key, Body=body)


@pytest.mark.parametrize("target_bytes", [100_000, 4 * MIB])
def test_an_object(s3: Any, tmp_path: Path, target_bytes: int) -> None:
    put(s3, **{"d/rows.jsonl": TEXT})

    got = read("s3://box/d/rows.jsonl", tmp_path, fetch=True, target_bytes=target_bytes)

    assert got.rows == ROWS
    assert got.problems == []
    assert got.files == ["s3://box/d/rows.jsonl"]
    assert (got.places[0].kind, got.places[0].size) == ("jsonl", len(TEXT))
    assert sum(block.read for block in got.blocks) == len(TEXT)


def test_an_object_larger_than_what_is_read_ahead(s3: Any, tmp_path: Path) -> None:
    put(s3, **{"rows.jsonl": TEXT * 6})

    assert read("s3://box/rows.jsonl", tmp_path, fetch=True).rows == ROWS * 6


def test_parquet(s3: Any, tmp_path: Path) -> None:
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(ROWS), out)
    put(s3, **{"rows.parquet": out.getvalue()})

    assert read("s3://box/rows.parquet", tmp_path, fetch=True).rows == ROWS


@pytest.mark.parametrize("spec", ["s3://box/d", "s3://box/d/"])
def test_a_folder(s3: Any, tmp_path: Path, spec: str) -> None:
    names = ["d/b.jsonl", "d/a/c.jsonl", "d/.hidden.jsonl", "d/README.md", "dd/x.jsonl", "d/"]
    put(s3, **{name: b'{"a": 1}\n' for name in names})

    got = read(spec, tmp_path, fetch=True)

    assert got.files == ["s3://box/d/a/c.jsonl", "s3://box/d/b.jsonl"]
    assert len(got.rows) == 2
    assert got.warnings == ["E230"]
    assert "`.hidden.jsonl`, `README.md`" in got.problems[0].what


def test_a_bucket(s3: Any, tmp_path: Path) -> None:
    put(s3, **{"a.jsonl": b"{}\n", "d/b.csv": b"x\n1\n"})

    assert read("s3://box", tmp_path, fetch=True).files == ["s3://box/a.jsonl", "s3://box/d/b.csv"]


@pytest.mark.parametrize(
    ("spec", "files"),
    [
        ("s3://box/d/*.jsonl", ["s3://box/d/a.jsonl", "s3://box/d/b.jsonl"]),
        ("s3://box/**/c.jsonl", ["s3://box/d/x/c.jsonl"]),
        ("s3://box/d/[b].jsonl", ["s3://box/d/b.jsonl"]),
        ("s3://box/*/x/*", ["s3://box/d/x/c.jsonl"]),
    ],
)
def test_a_pattern(s3: Any, tmp_path: Path, spec: str, files: list[str]) -> None:
    put(s3, **{name: b"{}\n" for name in ("d/a.jsonl", "d/b.jsonl", "d/x/c.jsonl")})

    got = read(spec, tmp_path, fetch=True)

    assert got.files == files
    assert got.problems == []


@pytest.mark.parametrize("spec", ["s3://box/*.jsonl", "s3://box/nowhere/**"])
def test_a_pattern_without_data(s3: Any, tmp_path: Path, spec: str) -> None:
    assert read(spec, tmp_path, fetch=True).faults == [("E229", None)]


@pytest.mark.parametrize(
    ("spec", "said"),
    [("s3://box/nowhere.jsonl", "that name"), ("s3://nobucket/rows.jsonl", "bucket"), ("s3://nobucket", "that name")],
)
def test_what_is_not_there(s3: Any, tmp_path: Path, spec: str, said: str) -> None:
    got = read(spec, tmp_path, fetch=True)

    assert got.faults == [("E201", None)]
    assert said in got.fault.why


def test_a_name_that_no_bucket_can_have(s3: Any, tmp_path: Path) -> None:
    assert read("s3://no bucket!/rows.jsonl", tmp_path, fetch=True).faults == [("E202", None)]


def test_an_object_that_changes_while_it_is_read(s3: Any, tmp_path: Path) -> None:
    put(s3, **{"rows.jsonl": TEXT})
    found: list[Problem] = []
    (place,) = places("s3://box/rows.jsonl", tmp_path, fetch=True, found=found.append)

    rest = blocks(place, found.append, target_bytes=100_000)
    next(rest)
    put(s3, **{"rows.jsonl": TEXT.replace(b"row", b"ROW")})
    list(rest)

    assert [each.code for each in found] == ["E224"]


def test_an_object_that_is_gone_when_it_is_read(s3: Any, tmp_path: Path) -> None:
    put(s3, **{"rows.jsonl": TEXT})
    found: list[Problem] = []
    (place,) = places("s3://box/rows.jsonl", tmp_path, fetch=True, found=found.append)
    s3.delete_object(Bucket="box", Key="rows.jsonl")

    assert list(blocks(place, found.append)) == []
    assert [each.code for each in found] == ["E201"]


def test_without_credentials_an_open_bucket_is_read(s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    s3.put_object(Bucket="box", Key="rows.jsonl", Body=TEXT, ACL="public-read")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")

    assert read("s3://box/rows.jsonl", tmp_path, fetch=True).rows == ROWS


def test_a_profile_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")

    got = read("s3://box/rows.jsonl", tmp_path, fetch=True)

    assert got.faults == [("E233", None)]
    assert "AWS_PROFILE" in got.fault.fix


@pytest.mark.parametrize("signed", [True, False])
def test_a_bucket_that_may_not_be_read(web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, signed: bool) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", web.url)
    if not signed:
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    web.answers["/box/rows.jsonl"] = status(403)

    got = read("s3://box/rows.jsonl", tmp_path, fetch=True)

    assert got.faults == [("E233", None)]
    assert ("AWS_PROFILE" in got.fault.fix) is not signed
    assert all(("Authorization" in headers) is signed for _, _, headers in web.requests)


@pytest.mark.parametrize("code", ["InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken"])
def test_credentials_that_are_wrong(web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", web.url)
    body = f"<Error><Code>{code}</Code><Message>topsecret</Message></Error>".encode()
    web.answers["/box"] = status(403, body, Content_Type="application/xml")

    got = read("s3://box/*.jsonl", tmp_path, fetch=True)

    assert got.faults == [("E233", None)]
    assert "AWS_PROFILE" in got.fault.fix
    assert "topsecret" not in repr(got.problems)


@pytest.mark.parametrize("code", [500, 503])
def test_a_server_that_fails_is_asked_three_times(
    web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", web.url)
    web.answers["/box/rows.jsonl"] = status(code)

    got = read("s3://box/rows.jsonl", tmp_path, fetch=True)

    assert got.faults == [("E232", None)]
    assert str(code) in got.fault.why
    assert len(web.requests) == 3


def test_a_server_that_fails_for_a_moment(web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", web.url)
    file = content(TEXT, headers={"ETag": '"1"', "Last-Modified": "Tue, 24 Nov 2026 12:00:00 GMT"})
    web.answers["/box/rows.jsonl"] = in_turn(status(503), file, status(500), file, status(503), status(503), file)

    got = read("s3://box/rows.jsonl", tmp_path, fetch=True)

    assert got.problems == []
    assert got.rows == ROWS


def test_nobody_listens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")

    got = read("s3://box/rows.jsonl", tmp_path, fetch=True)

    assert got.faults == [("E232", None)]
