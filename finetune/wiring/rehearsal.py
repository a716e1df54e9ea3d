"""Stand-ins for hosted APIs within this process, and a place apart for the jobs that are tried against them."""

import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING

from finetune.errors import Problem, UsageError

if TYPE_CHECKING:
    from finetune.sandbox.faults import Fault
    from finetune.sandbox.server import Server


class Sandboxes:
    """Running stand-ins."""

    def __init__(self, servers: "Sequence[Server]", home: Path) -> None:
        self._servers = servers
        #: What sends ft there: addresses, keys, and a home of its own, so that no tuned model of theirs is taken for
        #: one that exists.
        self.environment = {
            name: value
            for server in servers
            for name, value in server.environment.items()
        } | {"FT_SANDBOX": "1", "FT_HOME": str(home)}  # fmt: skip

    def wait(self) -> None:
        """Block until SIGINT or SIGTERM."""
        asked = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: asked.set())
        asked.wait()


def names() -> list[str]:
    """The stand-ins that there are."""
    return sorted(_entries())


@contextmanager
def running(
    wanted: Sequence[str], home: Path, *, port: int, speed: float, laid: Sequence[str], rate: tuple[float, int]
) -> Iterator[Sandboxes]:
    """Start stand-ins (all when none is named) on ports from `port` on, and end them. Raises UsageError."""
    from finetune.sandbox.clock import SandboxClock
    from finetune.sandbox.faults import Faults
    from finetune.sandbox.server import Server

    entries = _entries()
    if unknown := sorted(set(wanted) - entries.keys()):
        why = f"there are {', '.join(sorted(entries))}"
        what = f"there is no sandbox {unknown[0]!r}"
        raise UsageError(Problem(code="E906", what=what, why=why, fix="name one of these, or none for all"))
    faults = [_fault(text) for text in laid]
    with ExitStack() as stack:
        servers = []
        for place, name in enumerate(wanted or sorted(entries)):
            share, seed = rate
            sandbox = entries[name].load()(clock=SandboxClock(speed), faults=Faults(faults, rate=share, seed=seed))
            try:
                servers.append(stack.enter_context(Server(sandbox, port + place if port else 0)))
            except OSError as error:
                what = f"port {port + place} cannot be used for the sandbox"
                fix = "take another --port, or 0 for any free one"
                raise UsageError(Problem(code="E906", what=what, why=str(error.strerror or error), fix=fix)) from None
        yield Sandboxes(servers, home)


@contextmanager
def rehearsing(wanted: Sequence[str], home: Path) -> Iterator[None]:
    """Point this process, and those that it starts, at stand-ins and at a home of their own."""
    with running(wanted, home, port=0, speed=1.0, laid=(), rate=(0.0, 0)) as found:
        before = dict(os.environ)
        # There, no server is needed: the workers that the command starts watch a database of their own.
        for name in ("FT_BROKER_URL", "FT_DATABASE_URL"):
            os.environ.pop(name, None)
        os.environ.update(found.environment)
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)


def _entries() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group="ft.sandboxes")}


def _fault(text: str) -> "Fault":
    """`KIND` or `KIND:OPERATION`."""
    from finetune.sandbox.faults import KINDS, Fault

    kind, _, operation = text.partition(":")
    for known in KINDS:
        if kind == known:
            return Fault(kind=known, on=operation or "*", seconds=2.0)
    fix = f"one of {', '.join(KINDS)}"
    raise UsageError(Problem(code="E906", what=f"there is no fault {kind!r}", why="the sandbox knows others", fix=fix))
