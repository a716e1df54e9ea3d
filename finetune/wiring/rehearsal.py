"""Stand-ins for hosted APIs within this process, and a place apart for the jobs that are tried against them."""

import os
import signal
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Final

from finetune.errors import Problem, UsageError, WorkerError

if TYPE_CHECKING:
    from finetune.sandbox.faults import Fault
    from finetune.sandbox.server import Server
    from finetune.sandbox.service import Sandbox

#: There no server is needed; and the workers of a real installation must not get the jobs of a stand-in.
CLEARED: Final = ("FT_BROKER_URL", "FT_DATABASE_URL")


class Sandboxes:
    """Running stand-ins."""

    #: Variables that must not be set beside `environment`.
    cleared = CLEARED

    def __init__(self, servers: "Mapping[str, Server]", home: Path) -> None:
        #: What sends ft there: addresses, keys, and a home of its own, so that no tuned model of theirs is taken for
        #: one that exists.
        self.environment = {
            name: value
            for server in servers.values()
            for name, value in server.environment.items()
        } | {"FT_SANDBOX": ",".join(servers), "FT_HOME": str(home)} | _unproxied()  # fmt: skip

    def wait(self) -> None:
        """Block until SIGINT or SIGTERM."""
        asked = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: asked.set())
        asked.wait()


def _unproxied() -> dict[str, str]:
    """What keeps requests to loopback from a proxy that is set for all others; which spelling counts differs."""
    before = os.environ.get("no_proxy") or os.environ.get("NO_PROXY")
    value = f"{before},127.0.0.1" if before else "127.0.0.1"
    return {"NO_PROXY": value, "no_proxy": value}


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
        share, seed = rate
        sandboxes: dict[str, Sandbox] = {
            name: entries[name].load()(clock=SandboxClock(speed), faults=Faults(faults, rate=share, seed=seed))
            for name in dict.fromkeys(wanted or sorted(entries))
        }
        _guard_operations(faults, sandboxes.values())
        servers = {}
        for place, (name, sandbox) in enumerate(sandboxes.items()):
            try:
                servers[name] = stack.enter_context(Server(sandbox, port + place if port else 0))
            except OSError as error:
                what = f"port {port + place} cannot be used for the sandbox"
                fix = "take another --port, or 0 for any free one"
                raise UsageError(Problem(code="E906", what=what, why=str(error.strerror or error), fix=fix)) from None
        yield Sandboxes(servers, home)


@contextmanager
def rehearsing(home: Path) -> Iterator[None]:
    """Point this process, and those that it starts, at stand-ins and at a home of their own. Raises UsageError.

    At all of them: a job that an earlier one has left in that home must not reach the API that it is meant for.
    """
    with _alone(home), running((), home, port=0, speed=1.0, laid=(), rate=(0.0, 0)) as found:
        before = dict(os.environ)
        for name in CLEARED:
            os.environ.pop(name, None)
        os.environ.update(found.environment)
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)


@contextmanager
def _alone(home: Path) -> Iterator[None]:
    """Hold the home against other commands that bring workers: those would send our jobs to their own stand-ins."""
    from finetune.up import only_one

    with ExitStack() as stack:
        try:
            stack.enter_context(only_one(home, ""))
        except WorkerError:
            what = f"another command uses the sandbox in {home}"
            why = "its workers would take these jobs to stand-ins of their own"
            fix = "wait for its end, or set FT_HOME to another folder"
            raise UsageError(Problem(code="E906", what=what, why=why, fix=fix)) from None
        yield


def _entries() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group="ft.sandboxes")}


def _guard_operations(faults: "Sequence[Fault]", sandboxes: "Collection[Sandbox]") -> None:
    """Raises UsageError for a fault that no request can meet."""
    known = {route.operation for sandbox in sandboxes for route in sandbox.routes()} | {"*", "webhook"}
    for fault in faults:
        if fault.on not in known:
            what, why = f"no sandbox here has an operation {fault.on!r}", f"there are {', '.join(sorted(known))}"
            raise UsageError(Problem(code="E906", what=what, why=why, fix="for example: --fault cut_after:create"))


def _fault(text: str) -> "Fault":
    """`KIND` or `KIND:OPERATION`."""
    from finetune.sandbox.faults import KINDS, Fault

    kind, _, operation = text.partition(":")
    for known in KINDS:
        if kind == known:
            return Fault(kind=known, on=operation or "*", seconds=2.0)
    fix = f"one of {', '.join(KINDS)}"
    raise UsageError(Problem(code="E906", what=f"there is no fault {kind!r}", why="the sandbox knows others", fix=fix))
