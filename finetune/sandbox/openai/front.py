"""What stands before OpenAI's operations: keys, the pace, headers, and the form of a refusal."""

import random
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Final

from finetune.sandbox.clock import SandboxClock
from finetune.sandbox.faults import Faults
from finetune.sandbox.openai.bodies import json_body
from finetune.sandbox.openai.log import Ids
from finetune.sandbox.openai.paging import only
from finetune.sandbox.openai.words import Refused
from finetune.sandbox.service import Refusal, Reply, Request, Route, Sandbox

Answer = Callable[[Request], Any]
#: Method, path below the root, name, what answers it, and the parameters that it takes.
Operation = tuple[str, str, str, Answer, tuple[str, ...]]

ORGANIZATION: Final = "org-sandbox"
KEY: Final = "sandbox-key"
_NO_ACCESS: Final = "sandbox-no-access"
_TYPES: Final = {429: "requests", 500: "server_error", 503: "server_error"}
_CODES: Final = {429: "rate_limit_exceeded"}


class Front(Sandbox):
    """The part of the stand-in that every request passes."""

    #: Where the API begins.
    root: ClassVar[str] = "/v1"
    ids: ClassVar[Ids] = Ids()
    #: Parameters that may stand in any query.
    anywhere: ClassVar[tuple[str, ...]] = ()
    #: Of answers to operations that are not answered with 200.
    statuses: ClassVar[Mapping[str, int]] = {}

    def __init__(self, *, clock: SandboxClock | None, faults: Faults | None, per_minute: int) -> None:
        """`per_minute`: so many requests are let in in a minute of the sandbox's clock, then 429."""
        super().__init__(clock=clock, faults=faults)
        self._chance = random.Random()
        self._per_minute, self._minute, self._in_minute = per_minute, 0, 0
        #: Operation and path of the last requests that were let in.
        self.requests: deque[tuple[str, str]] = deque(maxlen=10_000)

    def authenticate(self, request: Request) -> Reply | None:
        """See `Sandbox.authenticate`. Counts the request, too."""
        key = self.key_of(request)
        if not key.startswith("sandbox"):
            return self.unknown_key(key)
        if key == _NO_ACCESS:
            return self.no_access()
        if not self._let_in():
            message = f"Rate limit reached for requests. Limit: {self._per_minute} / min."
            refused = self.refused(429, message)
            return Reply(status=429, body=refused.body, headers={**refused.headers, "Retry-After": "1"})
        return None

    def key_of(self, request: Request) -> str:
        """The credential of the request; empty when there is none."""
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        return key.strip() if scheme.lower() == "bearer" else ""

    def unknown_key(self, key: str) -> Reply:
        """The refusal of a key that is none. The vendor repeats the ends of the key; so does this."""
        if not key:
            return self.refused(401, "You didn't provide an API key.")
        masked = f"{key[:8]}{'*' * (len(key) - 12)}{key[-4:]}" if len(key) > 20 else "*" * len(key)
        message = f"Incorrect API key provided: {masked}. You can find your API key in the dashboard."
        return self.refused(401, message, code="invalid_api_key")

    def no_access(self) -> Reply:
        """The refusal of a key that may not do this."""
        message = "You have insufficient permissions for this operation. Missing scopes: api.fine_tuning.jobs.write."
        return self.refused(403, message, code="missing_scope")

    def refused(self, status: int, message: str, **more: Any) -> Reply:
        """See `Sandbox.refused`. `more`: code, param, type."""
        error = {
            "message": message,
            "type": more.get("type") or _TYPES.get(status, "invalid_request_error"),
            "param": more.get("param"),
            "code": more.get("code") or _CODES.get(status),
        }
        return Reply(status=status, body={"error": error}, headers=self.headers(0.0))

    def headers(self, took_s: float) -> dict[str, str]:
        """What every answer carries."""
        left = max(0, self._per_minute - self._in_minute)
        return {
            "x-request-id": "req_" + "".join(self._chance.choices("0123456789abcdef", k=32)),
            "openai-organization": ORGANIZATION,
            "openai-version": "2020-10-01",
            "openai-processing-ms": str(round(took_s * 1000)),
            "x-ratelimit-limit-requests": str(self._per_minute),
            "x-ratelimit-remaining-requests": str(left),
            "x-ratelimit-reset-requests": f"{60 - int(self.now()) % 60}s",
        }

    def now(self) -> float:
        """Seconds since 1970 by the sandbox's clock."""
        return self.clock.now().timestamp()

    def new_id(self, prefix: str) -> str:
        """An id as the vendor makes them."""
        return self.ids.make(self._chance, prefix)

    def json(self, request: Request, *, empty: bool = False) -> Any:
        """The request's body; see `openai_bodies.json_body`."""
        return json_body(request.body, request.headers.get("content-type", ""), empty=empty)

    def route(self, method: str, path: str, operation: str, answer: Answer, query: tuple[str, ...]) -> Route:
        """An operation that takes only these parameters; what it returns goes out as JSON, bytes as they are."""
        status = self.statuses.get(operation, 200)

        def wrapped(request: Request) -> Reply:
            begun = time.perf_counter()
            self.requests.append((operation, request.path))
            try:
                only(request.query, (*query, *self.anywhere))
                body = answer(request)
            except Refused as no:
                more = {"code": no.code, "param": no.param, "type": no.type}
                raise Refusal(self.refused(no.status, no.message, **more)) from None
            headers = self.headers(time.perf_counter() - begun)
            if isinstance(body, bytes):
                headers["Content-Type"] = "application/octet-stream"
            return Reply(status=status, body=body, headers=headers)

        return Route(method=method, path=self.root + path, operation=operation, answer=wrapped)

    def _let_in(self) -> bool:
        with self.lock:
            minute = int(self.now()) // 60
            if minute != self._minute:
                self._minute, self._in_minute = minute, 0
            self._in_minute += 1
            return self._in_minute <= self._per_minute
