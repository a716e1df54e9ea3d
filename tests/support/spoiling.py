"""How data comes to be broken: rows, files and folders with something wrong in them, and servers that refuse.

Nothing here says what must be told of it; `tests.support.broken` does.
"""

import gzip
import http.server
import json
import os
import socket
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

from tests.support.hub import Hub

MIB: Final = 1 << 20

#: Makes a file of that path, or does something to it.
Make = Callable[[Path], None]


def row(*messages: Any, **more: Any) -> str:
    """A row in OpenAI's layout."""
    return json.dumps({"messages": list(messages), **more}, ensure_ascii=False)


def says(role: str, content: Any, **more: Any) -> dict[str, Any]:
    """A message."""
    return {"role": role, "content": content, **more}


ASK: Final = says("user", "What is it?")
TELL: Final = says("assistant", "It is this.")


def good(number: int = 0) -> str:
    """A sound row, each number another."""
    return row(says("user", f"What about {number}?"), says("assistant", f"Number {number} is fine."))


def about(content: str) -> str:
    """A sound row in which the user says this."""
    return row(says("user", content), TELL)


def deep(depth: int, of: str = "[]") -> str:
    """JSON that is nested so deep."""
    return of[0] * depth + of[1] * depth


def write(raw: bytes | str) -> Make:
    """Makes a file."""
    return lambda path: put(path, raw)


def put(path: Path, raw: bytes | str) -> None:
    """Write a file."""
    path.write_bytes(raw if isinstance(raw, bytes) else raw.encode())


def lines(*rows: str | bytes) -> Make:
    """Makes a file of these lines."""
    return write(b"".join((each if isinstance(each, bytes) else each.encode()) + b"\n" for each in rows))


def second(text: str | bytes) -> Make:
    """Makes a file of three lines, of which this is the second and the others are sound."""
    return lines(good(1), text, good(2))


def packed(raw: str, spoil: Callable[[bytes], bytes] = bytes) -> Make:
    """Makes a file that is compressed with gzip; `spoil` does something to its bytes."""
    return lambda path: put(path, spoil(gzip.compress(raw.encode(), mtime=0)))


def framed(raw: str, spoil: Callable[[bytes], bytes] = bytes) -> Make:
    """Makes a file that is compressed with zstd; `spoil` does something to its bytes."""

    def make(path: Path) -> None:
        import zstandard

        put(path, spoil(zstandard.compress(raw.encode())))

    return make


def bomb(begin: str, times: int) -> Make:
    """Makes a small file of gzip that says `begin`, and then `times` 16 MiB of one letter."""

    def make(path: Path) -> None:
        packer = zlib.compressobj(1, wbits=31)
        member = packer.compress(b"x" * (16 * MIB)) + packer.flush()
        put(path, gzip.compress(begin.encode(), mtime=0) + member * times)

    return make


def with_holes(begin: str, size: int) -> Make:
    """Makes a file of so many bytes that takes no disk: NUL bytes stand behind its beginning."""

    def make(path: Path) -> None:
        put(path, begin)
        os.truncate(path, size)

    return make


def parquet(columns: Callable[[Any], Mapping[str, Any]], spoil: Callable[[bytes], bytes] = bytes) -> Make:
    """Makes a file of the columns that are made with pyarrow; `spoil` does something to its bytes."""

    def make(path: Path) -> None:
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.table(dict(columns(pyarrow))), path)
        put(path, spoil(path.read_bytes()))

    return make


def listener(path: Path) -> None:
    """Makes a socket."""
    # Its own path may be longer than that of a socket can be.
    at = os.open(path.parent, os.O_RDONLY)
    with closing(socket.socket(socket.AF_UNIX)) as made:
        made.bind(f"/proc/self/fd/{at}/{path.name}")
    os.close(at)


def link(to: str) -> Make:
    """Makes a link."""
    return lambda path: path.symlink_to(to)


def append(text: str) -> Make:
    """Writes on at the end of a file."""

    def make(path: Path) -> None:
        with path.open("a") as file:
            file.write(text)

    return make


def cut(size: int) -> Make:
    """Takes away what is behind so many bytes."""
    return lambda path: os.truncate(path, size)


@contextmanager
def answers(status: int, body: str = "", headers: Mapping[str, str] | None = None) -> Iterator[str]:
    """A web server on this machine with one answer to everything; gives its address."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body.encode())), **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body.encode())

        do_HEAD = do_GET

        def log_message(self, format: str, *args: Any) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


@contextmanager
def nobody() -> Iterator[str]:
    """An address on this machine at which nobody answers: its port is taken, and not listened at."""
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


@contextmanager
def hub(**files: str) -> Iterator[str]:
    """A hub on this machine with one data set, `owner/name`, of these files; gives its address."""
    with Hub({"owner/name": {f"data/{name}.jsonl": text.encode() for name, text in files.items()}}) as made:
        yield made.url
