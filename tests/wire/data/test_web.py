"""Data from web servers: good ones, old ones, and those that fail."""

import datetime as dt
import gzip
import io
import ipaddress
import json
import os
import socket
import ssl
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.support.servers import free_port
from tests.support.sources import MIB, read
from tests.support.web import Request, Web, content, cut_off, in_turn, status

ROWS = [{"n": n, "text": f"row {n} " * 20} for n in range(20_000)]
TEXT = "".join(json.dumps(row) + "\n" for row in ROWS).encode()


def parquet() -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(ROWS), out, row_group_size=1000)
    return out.getvalue()


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("target_bytes", [100_000, 4 * MIB])
def test_lines(web: Web, tmp_path: Path, ranges: bool, target_bytes: int) -> None:
    web.answers["/d/rows.jsonl"] = content(TEXT, ranges=ranges)

    got = read(f"{web.url}/d/rows.jsonl", tmp_path, fetch=True, target_bytes=target_bytes)

    assert got.rows == ROWS
    assert got.problems == []
    assert got.files == [f"{web.url}/d/rows.jsonl"]
    assert (got.places[0].kind, got.places[0].size) == ("jsonl", len(TEXT))
    assert sum(block.read for block in got.blocks) == len(TEXT)


def test_the_file_is_asked_for_once(web: Web, tmp_path: Path) -> None:
    web.answers["/rows.jsonl"] = content(TEXT)

    read(f"{web.url}/rows.jsonl", tmp_path, fetch=True)

    assert [method for method, _, _ in web.requests].count("GET") == 1


@pytest.mark.parametrize("name", ["rows.parquet", "rows"])
def test_parquet_is_read_in_parts(web: Web, tmp_path: Path, name: str) -> None:
    web.answers[f"/{name}"] = content(parquet())

    got = read(f"{web.url}/{name}", tmp_path, fetch=True)

    assert got.rows == ROWS
    assert got.problems == []


def test_parquet_from_a_server_without_parts(web: Web, tmp_path: Path) -> None:
    noise = pa.table({"text": [os.urandom(500).hex() for _ in range(20_000)]})
    out = io.BytesIO()
    pq.write_table(noise, out)
    web.answers["/rows.parquet"] = content(out.getvalue(), ranges=False)

    got = read(f"{web.url}/rows.parquet", tmp_path, fetch=True)

    assert got.fault.code == "E202"
    assert "copy" in got.fault.fix


def test_a_query_is_sent_and_not_shown(web: Web, tmp_path: Path) -> None:
    web.answers["/rows.csv"] = content(b"a\n1\n1,2\n")

    got = read(f"{web.url}/rows.csv?X-Amz-Signature=topsecret", tmp_path, fetch=True)

    assert got.files == [f"{web.url}/rows.csv"]
    assert got.fault.file == f"{web.url}/rows.csv"
    assert all("X-Amz-Signature=topsecret" in path for _, path, _ in web.requests)
    assert "topsecret" not in repr((got.problems, got.places))


def test_a_password_in_the_address_is_sent_and_not_shown(web: Web, tmp_path: Path) -> None:
    web.answers["/rows.jsonl"] = content(b"{}\nx\0\n" + b"{}\n" * 100)

    got = read(web.url.replace("://", "://user:topsecret@") + "/rows.jsonl", tmp_path, fetch=True)

    assert len(got.rows) == 101
    assert got.files == [f"{web.url}/rows.jsonl"]
    assert all(headers["Authorization"].startswith("Basic ") for _, _, headers in web.requests)
    assert "topsecret" not in repr((got.problems, got.places))


@pytest.mark.parametrize("name", ["rows.jsonl.gz", "rows.jsonl"])
def test_a_packed_file_comes_as_it_lies_there(web: Web, tmp_path: Path, name: str) -> None:
    web.answers[f"/{name}"] = content(gzip.compress(TEXT), headers={"Content-Encoding": "gzip"})

    assert read(f"{web.url}/{name}", tmp_path, fetch=True).rows == ROWS


def test_a_server_that_knows_no_head(web: Web, tmp_path: Path) -> None:
    plain = content(TEXT)

    def answer(request: Request) -> None:
        status(405)(request) if request.command == "HEAD" else plain(request)

    web.answers["/rows.jsonl"] = answer

    assert read(f"{web.url}/rows.jsonl", tmp_path, fetch=True).rows == ROWS


def test_a_server_that_does_not_know_the_size(web: Web, tmp_path: Path) -> None:
    def answer(request: Request) -> None:
        request.send_response(200)
        request.send_header("Connection", "close")
        request.end_headers()
        if request.command == "GET":
            request.wfile.write(TEXT)

    web.answers["/rows.jsonl"] = answer

    got = read(f"{web.url}/rows.jsonl", tmp_path, fetch=True)

    assert got.rows == ROWS
    assert got.places[0].size is None


def test_a_redirection_is_followed(web: Web, tmp_path: Path) -> None:
    web.answers["/old.jsonl"] = status(302, Location="/new")
    web.answers["/new"] = content(TEXT)

    assert read(f"{web.url}/old.jsonl", tmp_path, fetch=True).rows == ROWS


def test_a_redirection_to_an_open_line_is_refused(web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1,far.test")
    lookup = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *rest, **more: lookup("127.0.0.1", *rest, **more))
    web.answers["/old.jsonl"] = status(302, Location=web.url.replace("127.0.0.1", "far.test") + "/rows.jsonl")
    web.answers["/rows.jsonl"] = content(TEXT)

    got = read(f"{web.url}/old.jsonl", tmp_path, fetch=True)

    assert got.places == []
    assert got.fault.code == "E202"
    assert "far.test" in got.fault.what


@pytest.mark.parametrize(
    ("code", "error"), [(401, "E233"), (403, "E233"), (404, "E201"), (410, "E201"), (418, "E233"), (429, "E232")]
)
def test_a_server_that_refuses(web: Web, tmp_path: Path, code: int, error: str) -> None:
    web.answers["/rows.jsonl"] = status(code)

    got = read(f"{web.url}/rows.jsonl", tmp_path, fetch=True)

    assert got.places == []
    assert got.faults == [(error, None)]
    assert got.fault.file == f"{web.url}/rows.jsonl"


@pytest.mark.parametrize("code", [500, 502, 503])
def test_a_server_that_fails_is_asked_three_times(web: Web, tmp_path: Path, code: int) -> None:
    web.answers["/rows.jsonl"] = status(code)

    got = read(f"{web.url}/rows.jsonl", tmp_path, fetch=True)

    assert got.faults == [("E232", None)]
    assert str(code) in got.fault.why
    assert [method for method, _, _ in web.requests].count("GET") == 3


def test_a_server_that_fails_for_a_moment(web: Web, tmp_path: Path) -> None:
    web.answers["/rows.jsonl"] = in_turn(*[status(503)] * 2, content(TEXT))

    assert read(f"{web.url}/rows.jsonl", tmp_path, fetch=True).rows == ROWS


def test_nobody_listens(tmp_path: Path) -> None:
    got = read(f"http://127.0.0.1:{free_port()}/rows.jsonl", tmp_path, fetch=True)

    assert got.faults == [("E232", None)]


def test_a_name_that_nobody_knows(tmp_path: Path) -> None:
    # What looks names up is not the network here: the name cannot be one.
    got = read(f"https://{'x' * 64}.invalid/rows.jsonl", tmp_path, fetch=True)

    assert len(got.faults) == 1
    assert got.fault.code in ("E202", "E232")


def test_a_connection_that_breaks(web: Web, tmp_path: Path) -> None:
    web.answers["/rows.jsonl"] = cut_off(TEXT, 1_000_000)

    got = read(f"{web.url}/rows.jsonl", tmp_path, fetch=True, target_bytes=100_000)

    assert got.faults == [("E232", None)]
    assert got.rows == ROWS[: len(got.rows)]


def test_a_file_that_changes_while_it_is_read(web: Web, tmp_path: Path) -> None:
    old, new = content(TEXT, headers={"ETag": '"1"'}), content(TEXT, headers={"ETag": '"2"'})

    def answer(request: Request) -> None:
        first = not any(method == "GET" for method, _, _ in web.requests[:-1])
        (old if first else new)(request)

    web.answers["/rows.jsonl"] = answer

    assert read(f"{web.url}/rows.jsonl", tmp_path, fetch=True).faults == [("E224", None)]


def test_a_page_in_place_of_data(web: Web, tmp_path: Path) -> None:
    web.answers["/rows"] = content(b"<!doctype html><html></html>")

    assert read(f"{web.url}/rows", tmp_path, fetch=True).faults == [("E205", None)]


def certificate(folder: Path) -> tuple[ssl.SSLContext, Path]:
    """A TLS context for 127.0.0.1, and the file with the certificate that vouches for it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tests")])
    now = dt.datetime.now(dt.UTC)
    built = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = folder / "server.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    pem.write_bytes(private + built.public_bytes(serialization.Encoding.PEM))
    (folder / "ca.pem").write_bytes(built.public_bytes(serialization.Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    return context, folder / "ca.pem"


_CHILD = """
import sys
from pathlib import Path
from tests.support.sources import read
got = read(sys.argv[1], Path(), fetch=True)
print(len(got.rows), *(f"{problem.code} {problem.why}" for problem in got.problems))
"""


@pytest.mark.parametrize("trusted", [True, False])
def test_over_tls(tmp_path: Path, trusted: bool) -> None:
    context, authority = certificate(tmp_path)
    with Web(context) as web:
        web.answers["/rows.jsonl"] = content(TEXT)
        # The library reads the variable once, when it is imported.
        env = os.environ | ({"SSL_CERT_FILE": str(authority)} if trusted else {})
        argv = [sys.executable, "-c", _CHILD, f"{web.url}/rows.jsonl"]
        done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=60, check=True)

    said = done.stdout.strip()
    assert said == "20000" if trusted else said.startswith("0 E232 The server's certificate")
    assert done.stderr == ""
