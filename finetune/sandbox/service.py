"""What every stand-in is: routes to methods, a state under one lock, a clock, faults, and a ledger of its jobs."""

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar
from urllib.parse import parse_qs

from finetune.sandbox.clock import SandboxClock
from finetune.sandbox.faults import Faults


@dataclass(frozen=True, kw_only=True)
class Request:
    """What came in, whole."""

    method: str
    path: str
    #: As it stood behind the `?`.
    query_text: str
    #: Names in lower case.
    headers: Mapping[str, str]
    body: bytes
    #: Where it arrived: `http://127.0.0.1:PORT`.
    base: str = ""
    #: The parts of the path that the route names in braces.
    parts: Mapping[str, str] = field(default_factory=dict)

    @property
    def query(self) -> dict[str, list[str]]:
        """Parameters, each with all its values."""
        return parse_qs(self.query_text, keep_blank_values=True)

    def one(self, name: str) -> str | None:
        """The parameter's last value; None when it is not there."""
        return self.query.get(name, [None])[-1]


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What goes out."""

    status: int = 200
    #: Bytes go out as they are, None as an empty body, all else as JSON.
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def encoded(self) -> bytes:
        """The body's bytes."""
        if self.body is None:
            return b""
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


class Refusal(Exception):
    """Raised by a handler instead of an answer."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.status)
        self.reply = reply


@dataclass(frozen=True, kw_only=True)
class Route:
    """One operation. Braces in the path match one part; a part that ends with `:verb` names the verb outside them.

    `{name...}` at the end matches the rest of the path.
    """

    method: str
    path: str
    #: What faults and tests call it: `create`, `retrieve`, `list`, `cancel`, `start`, `events`, `upload` ...
    operation: str
    answer: Callable[[Request], Reply]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One job of the ledger, which tests and `ft sandbox` read."""

    remote_id: str
    #: The run key that the job carries; None when it carries none.
    key: str | None
    raw_state: str
    #: Neither cancelled nor about to be: somebody pays for it.
    live: bool
    #: Whether it was ever started, which is what costs.
    paid: bool


class Sandbox:
    """A stand-in for one hosted API. A handler runs under `lock`; `ledger` may be called from any thread."""

    #: As users write it: `ft sandbox openai`.
    name: ClassVar[str]

    def __init__(self, *, clock: SandboxClock | None = None, faults: Faults | None = None) -> None:
        self.clock, self.faults = clock or SandboxClock(), faults or Faults()
        self.lock = threading.RLock()

    def routes(self) -> Sequence[Route]:
        """All operations."""
        raise NotImplementedError

    def environment(self, url: str) -> dict[str, str]:
        """The variables that send a client here instead of to the vendor; `url` is where the server listens."""
        raise NotImplementedError

    def refused(self, status: int, message: str, **more: Any) -> Reply:
        """An error in the vendor's own form. `more` holds its further fields."""
        raise NotImplementedError

    def authenticate(self, request: Request) -> Reply | None:
        """None when the request carries a credential that is taken here, else the refusal."""
        raise NotImplementedError

    def ledger(self) -> list[Entry]:
        """All jobs ever made, oldest first."""
        raise NotImplementedError

    def tick(self) -> None:
        """Called about twenty times a second while a server runs: what happens without a request (webhooks)."""
