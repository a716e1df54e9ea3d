"""Runs an ASGI application: own socket, own signals, a clean end, and no words of its own."""

import contextlib
import errno
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import uvicorn

from finetune.serving.asks import fault

log = logging.getLogger("finetune.serving")

#: Answers under way get this long at a stop; then they are cut off.
_GRACE_S = 5
_BACKLOG = 128


class Server(uvicorn.Server):
    """uvicorn without its logging, with our view of signals, and a word when it listens."""

    def __init__(self, app: Any, on_listening: Callable[[], None]) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                log_config=None,
                log_level="critical",
                access_log=False,
                lifespan="off",
                ws="none",
                timeout_graceful_shutdown=_GRACE_S,
            )
        )
        self._on_listening = on_listening

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen, then say so."""
        await super().startup(sockets=sockets)
        self._on_listening()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """SIGTERM and SIGINT end the server and nothing else: uvicorn would raise them again afterwards."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def stop(number: int, frame: FrameType | None) -> None:
            # The second one means now.
            self.force_exit = self.should_exit
            self.should_exit = True

        before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def serve(
    app: Any, host: str, port: int, on_ready: Callable[[str], None], lines: logging.Formatter | None = None
) -> None:
    """Serve until SIGTERM or SIGINT, then finish what is under way (5 s at most) and return. Blocks.

    Port 0 takes a free one. `on_ready` is told the URL once connections are accepted. What fails while it answers
    goes to standard error, with its traceback, as `lines` writes it (None: as text). Raises ServingError E757 when the
    address cannot be had. In a thread other than the main one no signal is listened to.
    """
    with _logging(lines), _bound(host, port) as taken:
        Server(app, lambda: on_ready(_url(host, taken))).run(sockets=[taken])


def check_address(host: str, port: int) -> None:
    """Raise ServingError E757 if nothing could listen there at this moment."""
    with _bound(host, port):
        pass


@contextlib.contextmanager
def running(app: Any, host: str = "127.0.0.1", port: int = 0) -> Iterator[str]:
    """The application served by a thread while the block runs; yields its URL. Raises ServingError E757."""
    with _bound(host, port) as taken:
        listening = threading.Event()
        server = Server(app, listening.set)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [taken]}, name="ft-serve", daemon=True)
        thread.start()
        while not listening.wait(0.1):
            if not thread.is_alive():
                raise fault("E757", f"the server on {_url(host, taken)} ended before it listened")
        try:
            yield _url(host, taken)
        finally:
            server.should_exit = True
            thread.join()


@contextlib.contextmanager
def _logging(lines: logging.Formatter | None) -> Iterator[None]:
    """Print the server's log, whatever the libraries did to Python's logging."""
    handler = logging.StreamHandler()
    text = logging.Formatter("%(asctime)s %(levelname)s %(message)s", datefmt="%H:%M:%S")
    handler.setFormatter(lines or text)
    log.addHandler(handler)
    propagated, log.propagate = log.propagate, False
    try:
        yield
    finally:
        log.propagate = propagated
        log.removeHandler(handler)


@contextlib.contextmanager
def _bound(host: str, port: int) -> Iterator[socket.socket]:
    """A socket bound to the address. Bound by us: uvicorn ends the process when it cannot."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        taken = socket.socket(family, kind, protocol)
    except OSError as exc:
        raise fault(
            "E757", f"cannot listen on {host}", _reason(exc), "use --host 127.0.0.1 or an address of this machine"
        ) from exc
    with taken:
        try:
            if os.name == "posix":
                # A restart must not wait for the last run's connections to time out.
                taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            taken.bind(address)
            # Only now is it certain: two sockets can be bound to one port, but not both listen.
            taken.listen(_BACKLOG)
        except OSError as exc:
            raise _cannot_listen(host, port, exc) from exc
        yield taken


def _cannot_listen(host: str, port: int, exc: OSError) -> Exception:
    if exc.errno == errno.EADDRINUSE:
        what, why = f"port {port} on {host} is in use", "another program, perhaps another ft, listens there"
    else:
        what, why = f"cannot listen on {host}:{port}", _reason(exc)
    return fault("E757", what, why, f"use --port {port + 1 if port < 65535 else 8000}, or --port 0 for any free port")


def _reason(exc: OSError) -> str:
    return (exc.strerror or str(exc)).lower()


def _url(host: str, taken: socket.socket) -> str:
    """Where a client on this machine reaches it."""
    name, port = taken.getsockname()[:2]
    if name in {"0.0.0.0", "::"}:
        name = "127.0.0.1" if name == "0.0.0.0" else "::1"
    return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"
