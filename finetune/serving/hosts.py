"""Which names the server answers to.

A web page can have its own name resolve to 127.0.0.1 and then talk to a loopback server as if it were its own (DNS
rebinding). Its requests carry that name in the Host header: a server without a key has to look at it.
"""

from collections.abc import Sequence

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from finetune.serving import replies


class AllowedHosts:
    """Middleware: 400, in OpenAI's form, for any request whose Host header names none of `allowed`.

    Names are compared without port and case; `::1` and `[::1]` are the same. Not Starlette's own middleware: that one
    cuts IPv6 addresses at their first colon, and answers in plain text.
    """

    def __init__(self, app: ASGIApp, allowed: Sequence[str]) -> None:
        self._app = app
        self._allowed = tuple(allowed)
        self._names = frozenset(_name(host) for host in allowed)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        hosts = [value.decode("latin-1") for key, value in scope.get("headers", ()) if key == b"host"]
        if scope["type"] != "http" or [_name(host) in self._names for host in hosts] == [True]:
            await self._app(scope, receive, send)
            return
        asked = ", ".join(hosts)[:100] or "a host without a name"
        body = replies.error(
            f"This server answers only as {', '.join(self._allowed)}, not as {asked}. "
            "Use one of these in the URL, or start the server with an API key.",
            "invalid_request_error",
            code="invalid_host",
        )
        await JSONResponse(body, status_code=400)(scope, receive, send)


def _name(host: str) -> str:
    """The host of a Host header: no port, no brackets, lower case."""
    host = host.strip().lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    # More than one colon without brackets: an IPv6 address alone.
    return host if host.count(":") > 1 else host.partition(":")[0]
