"""Uploads to Google Cloud Storage in one request: line ends as clients write them, and contents that look like them."""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from finetune.sandbox.server import Server
from finetune.sandbox.vertex.sandbox import BUCKET, VertexSandbox
from finetune.shelf.bucket import Bucket

CONTENTS = [
    b"",
    b"x",
    b"\n",
    b"\r\n",
    b"ends with one\n",
    b"ends with another\r\n",
    b"\nbegins with one",
    b"two\n\nlines\r\n\r\nand headers: none",
    b"\r",
    b"--not the edge\n--\n",
    bytes(range(256)),
]


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(VertexSandbox()) as served:
        yield served
        assert served.broken == []


def body(content: bytes, end: bytes) -> bytes:
    told, kind = b'{"name": "a/b"}', b"Content-Type: application/json; charset=UTF-8"
    pieces = [b"--==0==", kind, b"", told, b"--==0==", b"Content-Type: text/x-tried", b"", content, b"--==0==--"]
    return end.join(pieces)


def sent(server: Server, raw: bytes, header: str = 'multipart/related; boundary="==0=="') -> int:
    place = f"{server.url}/upload/storage/v1/b/{BUCKET}/o?uploadType=multipart"
    headers = {"Content-Type": header, "Authorization": "Bearer sandbox-key"}
    try:
        with urllib.request.urlopen(urllib.request.Request(place, raw, headers), timeout=10) as answer:
            assert json.load(answer)["name"] == "a/b"
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


@pytest.mark.parametrize("end", [b"\n", b"\r\n"], ids=["bare", "both"])
@pytest.mark.parametrize("content", CONTENTS, ids=range(len(CONTENTS)))
def test_the_content_comes_as_it_is_whatever_ends_the_lines(server: Server, content: bytes, end: bytes) -> None:
    assert sent(server, body(content, end)) == 200
    stored = server.sandbox.storage._objects[BUCKET]["a/b"]  # type: ignore[attr-defined]
    assert (stored.data, stored.content_type) == (content, "text/x-tried")


@pytest.mark.parametrize("end", [b"\n", b"\r\n"], ids=["bare", "both"])
def test_what_has_not_two_parts_is_refused(server: Server, end: bytes) -> None:
    good = body(b"x", end)
    for wrong in (b"", good.replace(b"--==0==--", b""), good + good, good.replace(b'{"name"', b"{name")):
        assert sent(server, wrong) == 400
    assert sent(server, good, "multipart/related") == 400
    assert server.sandbox.storage._objects[BUCKET].keys() & {"a/b"} == set()  # type: ignore[attr-defined]


@pytest.mark.parametrize("content", CONTENTS, ids=range(len(CONTENTS)))
def test_googles_client_for_folders_is_understood(
    server: Server, content: bytes, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """gcsfs ends its lines with bare line feeds."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.url)
    here = tmp_path_factory.mktemp("up") / "one"
    here.write_bytes(content)
    bucket = Bucket(f"gs://{BUCKET}/ft")
    bucket.upload(here, "one")
    assert bucket.read("one") == content
    assert {name: entry.bytes for name, entry in bucket.entries().items()} == {"one": len(content)}
