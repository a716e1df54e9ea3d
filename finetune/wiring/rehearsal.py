"""Stand-ins for hosted APIs and gateways within this process, and a place apart for what is tried against them."""

import os
import signal
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Final

from finetune.errors import Problem, UsageError, WorkerError

if TYPE_CHECKING:
    from finetune.sandbox.faults import Fault
    from finetune.sandbox.gateways.together import Chat
    from finetune.sandbox.server import Server
    from finetune.sandbox.service import Sandbox

#: There no server is needed; and the workers of a real installation must not get the jobs of a stand-in.
CLEARED: Final = ("FT_BROKER_URL", "FT_DATABASE_URL")


#: Held by whoever runs stand-ins for a home. Workers there, of other commands, hold the other lock.
_STAND_INS: Final = "sandbox.lock"


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


@dataclass(frozen=True, kw_only=True)
class How:
    """How stand-ins run."""

    #: The first port; 0: any free ones.
    port: int = 0
    #: How many times as fast as time their clocks run.
    speed: float = 1.0
    #: Faults in the path, `KIND[:OPERATION]`.
    laid: Sequence[str] = ()
    #: The share of requests that meet a fault, and the seed of these.
    rate: tuple[float, int] = (0.0, 0)
    #: The base model that gateways' stand-ins serve.
    base: str = "builtin:tiny-llama"


@contextmanager
def running(wanted: Sequence[str], home: Path, how: How) -> Iterator[Sandboxes]:
    """Start stand-ins (all hosted APIs when none is named) on ports from `how.port` on, and end them.

    One command at a time does so in a home. Raises UsageError.
    """
    from finetune.sandbox.server import Server

    port = how.port
    entries = _entries()
    with ExitStack() as stack:
        stack.enter_context(_alone(home, _STAND_INS))
        sandboxes = _made(wanted, entries, home, how)
        servers = {}
        for place, (name, sandbox) in enumerate(sandboxes.items()):
            try:
                servers[name] = stack.enter_context(Server(sandbox, port + place if port else 0))
            except OSError as error:
                what = f"port {port + place} cannot be used for the sandbox"
                fix = "take another --port, or 0 for any free one"
                raise UsageError(Problem(code="E906", what=what, why=str(error.strerror or error), fix=fix)) from None
        yield Sandboxes(servers, home)


def _made(wanted: Sequence[str], entries: Mapping[str, EntryPoint], home: Path, how: How) -> "dict[str, Sandbox]":
    """New stand-ins by name. Raises UsageError for one that nobody knows, and for a fault that none can meet."""
    from finetune.sandbox.clock import SandboxClock
    from finetune.sandbox.faults import Faults
    from finetune.sandbox.gateways import together

    names = list(dict.fromkeys(wanted or sorted(entries)))
    if unknown := sorted(set(names) - entries.keys() - set(together.NAMES)):
        why = f"there are {', '.join(sorted(entries))}; and, for gateways, {', '.join(together.NAMES)}"
        what = f"there is no sandbox {unknown[0]!r}"
        raise UsageError(Problem(code="E906", what=what, why=why, fix="name one of these, or none for all hosted APIs"))
    faults, (share, seed) = [_fault(text) for text in how.laid], how.rate
    sandboxes: dict[str, Sandbox] = {}
    for name in names:
        mine = Faults(faults, rate=share, seed=seed)
        if name in entries:
            sandboxes[name] = entries[name].load()(clock=SandboxClock(how.speed), faults=mine)
            continue
        try:
            server = together.made(name, how.base)
        except ValueError as error:
            what = f"the stand-in for {name} cannot serve {how.base}"
            fix = "name another with --base, such as --base Qwen/Qwen3-0.6B"
            raise UsageError(Problem(code="E906", what=what, why=str(error), fix=fix)) from None
        server.faults = mine
        together.write_like(server, partial(_chats, how.base, home))
        sandboxes[name] = server
    _guard_operations(faults, sandboxes.values())
    return sandboxes


def _chats(base: str, home: Path) -> "list[Chat]":
    """What the base's template makes of what promotions ask; empty as long as the base is not in this home."""
    from finetune.settings import from_environment
    from finetune.training.talks import template_of

    settings = from_environment({**os.environ, "FT_HOME": str(home)})
    known = template_of(base, cache=settings.cache_dir)
    return [(chat.messages, chat.text, chat.tokens) for chat in known.chats]


@contextmanager
def rehearsing(home: Path) -> Iterator[None]:
    """Point this process, and those that it starts, at stand-ins and at a home of their own. Raises UsageError.

    At all of them: a job that an earlier one has left in that home must not reach the API that it is meant for.
    """
    with _alone(home), running((), home, How()) as found:
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
def _alone(home: Path, lock: str = "up.lock") -> Iterator[None]:
    """Hold the home against other commands that bring workers: those would send our jobs to their own stand-ins."""
    from finetune.up import only_one

    with ExitStack() as stack:
        try:
            stack.enter_context(only_one(home, "", lock=lock))
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
