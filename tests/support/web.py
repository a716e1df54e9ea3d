"""A web server on loopback, as good or as bad as a test needs it."""

import re
import ssl
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import urlsplit

#: Answers a request itself.
Answer = Callable[["Request"], None]


class Request(BaseHTTPRequestHandler):
    """One request, with the ways to answer it."""

    protocol_version = "HTTP/1.1"
    server: "_Server"

    def do_HEAD(self) -> None:
        """Answer without a body."""
        self._answered()

    def do_GET(self) -> None:
        """Answer with the body, or the part of it that is asked for."""
        self._answered()

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def _answered(self) -> None:
        self.server.web.requests.append((self.command, self.path, dict(self.headers)))
        answer = self.server.web.answers.get(urlsplit(self.path).path, status(404))
        answer(self)

    def send(self, code: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        """Answer with these; without Content-Length among the headers, it is that of the body."""
        self.send_response(code)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def content(data: bytes, *, ranges: bool = True, headers: Mapping[str, str] | None = None) -> Answer:
    """A file; `ranges`: the server hands out parts of it."""

    def answer(request: Request) -> None:
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", request.headers.get("Range") or "")
        if not ranges or not asked:
            request.send(200, data, headers)
            return
        begin, end = int(asked[1]), min(int(asked[2]), len(data) - 1)
        request.send(
            206, data[begin : end + 1], {"Content-Range": f"bytes {begin}-{end}/{len(data)}", **(headers or {})}
        )

    return answer


def status(code: int, body: bytes = b"", **headers: str) -> Answer:
    """Always this status."""
    return lambda request: request.send(code, body, {name.replace("_", "-"): value for name, value in headers.items()})


def in_turn(*answers: Answer) -> Answer:
    """One answer after the other; then the last one."""
    left = list(answers)
    return lambda request: (left.pop(0) if len(left) > 1 else left[0])(request)


def cut_off(data: bytes, after: int) -> Answer:
    """A file of which the connection breaks after some bytes."""

    def answer(request: Request) -> None:
        request.send(200, data[:after], {"Content-Length": str(len(data))})
        request.close_connection = True

    return answer


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    web: "Web"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that go away are no fault."""


class Web:
    """Listens on a free port of this machine as long as the block lasts."""

    def __init__(self, certificate: ssl.SSLContext | None = None) -> None:
        """With a certificate it speaks TLS."""
        #: What is answered at which path; 404 elsewhere.
        self.answers: dict[str, Answer] = {}
        #: Method, path and headers of each request.
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self._scheme = "https" if certificate else "http"
        self._server = _Server(("127.0.0.1", 0), Request)
        self._server.web = self
        if certificate:
            self._server.socket = certificate.wrap_socket(self._server.socket, server_side=True)

    @property
    def url(self) -> str:
        """Without a slash at its end."""
        return f"{self._scheme}://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
