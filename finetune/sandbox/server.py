"""A stand-in behind a real socket on loopback, with the faults that only a socket can have."""

import json
import os
import re
import socket
import struct
import threading
import traceback
from collections.abc import Sequence
from dataclasses import asdict, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

from finetune.sandbox.faults import Fault, Kind
from finetune.sandbox.service import Refusal, Reply, Request, Route, Sandbox

_BEFORE: Final[tuple[Kind, ...]] = ("rate_limit", "server_error", "unavailable", "cut_before", "hang_before")
_AFTER: Final[tuple[Kind, ...]] = ("cut_after", "hang_after", "slow", "garbage")
_STATUS: Final = {"rate_limit": 429, "server_error": 500, "unavailable": 503}
_PIECES: Final = 8
_BODILESS: Final = (204, 304)
_TICK_S: Final = 0.05
#: Operations of the stand-in itself, for tests and people in other processes.
_CONTROL: Final = "/_sandbox/"


class Server:
    """Serves one stand-in on a port of 127.0.0.1 until `stop`. A context manager. Threads; nothing is forked."""

    def __init__(self, sandbox: Sandbox, port: int = 0) -> None:
        """`port` 0 takes any free one. Raises OSError when the port is taken."""
        self.sandbox = sandbox
        self.stopping = threading.Event()
        #: Requests so far, those that met a fault too.
        self.requests = 0
        #: Faults of the stand-in itself; tests want none.
        self.broken: list[str] = []
        self.table = [(route, _pattern(route.path)) for route in sandbox.routes()]
        self._http = _Http(("127.0.0.1", port), _Handler)
        self._http.owner = self
        self._started = False
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        self._threads = [
            threading.Thread(target=self._http.serve_forever, args=(_TICK_S,), daemon=True),
            threading.Thread(target=self._ticks, daemon=True),
        ]

    def __enter__(self) -> "Server":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Begin to answer."""
        self._started = True
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End: what hangs is let go. Blocks for a moment."""
        self.stopping.set()
        # Before the start there is no loop that could end, and shutdown would wait for it for ever.
        if self._started:
            self._http.shutdown()
        self._http.server_close()

    @property
    def environment(self) -> dict[str, str]:
        """The variables that send clients here."""
        return self.sandbox.environment(self.url)

    def _ticks(self) -> None:
        while not self.stopping.wait(_TICK_S):
            try:
                self.sandbox.tick()
            except Exception:  # noqa: BLE001 -- a stand-in with a fault says so, and goes on
                self.broken.append(traceback.format_exc())


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    owner: Server

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that has gone is no fault of ours, and nobody reads a traceback here."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Http
    #: Small writes are not held back: a reply is two of them.
    disable_nagle_algorithm = True

    def handle_one_request(self) -> None:
        """One request of a connection, whatever its method."""
        self.raw_requestline = self.rfile.readline(65537)
        if not self.raw_requestline or not self.parse_request():
            self.close_connection = True
            return
        try:
            request = self._read()
        except ValueError:
            self.send_error(400, "the length of the body cannot be read")
            self.close_connection = True
            return
        self.wfile.flush()
        if request.path.startswith(_CONTROL):
            self._write(_control(self.server.owner.sandbox, request))
            return
        self._serve(request)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is logged."""

    def _read(self) -> Request:
        path, _, query = self.path.partition("?")
        headers = {name.lower(): value for name, value in self.headers.items()}
        return Request(
            method=self.command,
            path=path,
            query_text=query,
            headers=headers,
            body=self._body(headers),
            base=self.server.owner.url,
        )

    def _body(self, headers: dict[str, str]) -> bytes:
        if headers.get("transfer-encoding", "").lower() != "chunked":
            return self.rfile.read(_size(headers.get("content-length") or "0", 10))
        pieces = []
        while size := _size(self.rfile.readline().split(b";")[0].strip().decode("latin-1"), 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return b"".join(pieces)

    def _serve(self, request: Request) -> None:
        sandbox = self.server.owner.sandbox
        self.server.owner.requests += 1
        route, request, allowed = _find(self.server.owner.table, request)
        if route is None:
            told = "the method is not allowed here" if allowed else f"unknown path {request.path}"
            self._write(sandbox.refused(405 if allowed else 404, told))
            return
        if fault := sandbox.faults.meet(route.operation, _BEFORE):
            self._fail_before(sandbox, fault)
            return
        reply = self._answer(sandbox, route, request)
        if fault := sandbox.faults.meet(route.operation, _AFTER):
            self._fail_after(reply, fault)
        else:
            self._write(reply)

    def _answer(self, sandbox: Sandbox, route: Route, request: Request) -> Reply:
        try:
            if refused := sandbox.authenticate(request):
                return refused
            with sandbox.lock:
                return route.answer(request)
        except Refusal as refusal:
            return refusal.reply
        except Exception:  # noqa: BLE001 -- a stand-in with a fault says so, and goes on
            self.server.owner.broken.append(traceback.format_exc())
            return sandbox.refused(500, "a fault in the sandbox itself")

    def _fail_before(self, sandbox: Sandbox, fault: Fault) -> None:
        if fault.kind in _STATUS:
            refused = sandbox.refused(_STATUS[fault.kind], f"{fault.kind}: the sandbox was told to fail here")
            if fault.kind == "rate_limit":
                refused = replace(refused, headers={**refused.headers, "Retry-After": f"{fault.seconds:g}"})
            self._write(refused)
            return
        if fault.kind == "hang_before":
            self.server.owner.stopping.wait(fault.seconds)
        self._cut()

    def _fail_after(self, reply: Reply, fault: Fault) -> None:
        if fault.kind == "garbage":
            status = 200 if reply.status in _BODILESS else reply.status
            self._write(replace(reply, status=status, body=b'<html>{"id": 502 Bad Gate'))
        elif fault.kind == "slow":
            self._write(reply, over_s=fault.seconds)
        else:
            if fault.kind == "hang_after":
                self.server.owner.stopping.wait(fault.seconds)
            self._cut()

    def _write(self, reply: Reply, over_s: float = 0.0) -> None:
        body = reply.encoded()
        self.send_response(reply.status)
        for name, value in {"Content-Type": "application/json", **reply.headers}.items():
            self.send_header(name, value)
        # These say that they have no body by having no length.
        if reply.status not in _BODILESS:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        pieces = _PIECES if over_s else 1
        size = max(1, -(-len(body) // pieces))
        for start in range(0, len(body), size):
            self.wfile.write(body[start : start + size])
            if over_s:
                self.server.owner.stopping.wait(over_s / pieces)

    def _cut(self) -> None:
        """Close the connection so that the client sees a reset, not an end."""
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        # Closing the socket itself would wait for the handler's file objects, and end the connection politely.
        os.close(self.connection.detach())


def _size(text: str, base: int) -> int:
    """A length. Raises ValueError for what is none: a sign, or an underscore between digits."""
    if not text.isalnum():
        raise ValueError(text)
    return int(text, base)


def _pattern(path: str) -> re.Pattern[str]:
    """The path with its braces as groups."""
    out = re.escape(path).replace(r"\{", "{").replace(r"\}", "}").replace(r"\.\.\.", "...")
    out = re.sub(r"\{(\w+)\.\.\.\}", r"(?P<\1>.+)", out)
    return re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/:]+)", out))


def _find(table: Sequence[tuple[Route, re.Pattern[str]]], request: Request) -> tuple[Route | None, Request, bool]:
    """The route, the request with the parts of its path, and whether the path has routes for other methods."""
    found = [(route, match) for route, pattern in table if (match := pattern.fullmatch(request.path))]
    for route, match in found:
        if route.method == request.method:
            return route, replace(request, parts=match.groupdict()), True
    return None, request, bool(found)


def _control(sandbox: Sandbox, request: Request) -> Reply:
    """`GET /_sandbox/jobs`, `POST /_sandbox/faults` (a Fault or `list_lag_s`), `POST /_sandbox/clock` (`advance_s`)."""
    what = request.path.removeprefix(_CONTROL)
    if (request.method, what) == ("GET", "jobs"):
        return Reply(body=[asdict(entry) for entry in sandbox.ledger()])
    if request.method != "POST" or what not in ("faults", "clock"):
        return Reply(status=404, body={"error": "jobs, faults or clock"})
    try:
        said = json.loads(request.body)
        if what == "clock":
            sandbox.clock.advance(float(said["advance_s"]))
        elif "list_lag_s" in said:
            sandbox.faults.list_lag_s = float(said["list_lag_s"])
        else:
            sandbox.faults.lay(Fault(**said))
    except (ValueError, TypeError, KeyError) as error:
        return Reply(status=400, body={"error": f"{type(error).__name__}: {error}"})
    return Reply(status=204)
