"""Between the event loop and the threads that compute, and an end when the client leaves."""

import json
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import TypeVar

from anyio import CancelScope, CapacityLimiter, create_task_group, to_thread
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from finetune.jobs import Json
from finetune.serving.asks import Generation

T = TypeVar("T")

#: For so long a client that has left is answered at most, or for one token.
_SLICE_S = 0.05


async def pieces(generation: Generation, limiter: CapacityLimiter) -> AsyncGenerator[str, None]:
    """The generation's pieces. Each token is made in a thread, which is free again for others in between.

    Closing this closes the generation, after the token under way.
    """
    try:
        while (piece := await to_thread.run_sync(next, generation, None, limiter=limiter)) is not None:
            yield piece
    finally:
        # `close` may wait for a forward pass, so it has no place on the event loop; and it must happen
        # also when this task is being cancelled.
        with CancelScope(shield=True):
            await to_thread.run_sync(generation.close, limiter=limiter)


async def whole(generation: Generation, limiter: CapacityLimiter) -> str:
    """All of the generation's text. A thread makes tokens for `_SLICE_S` at a time: a hop costs as much as a token."""
    text, ended = "", False
    try:
        while not ended:
            more, ended = await to_thread.run_sync(_for_a_while, generation, limiter=limiter)
            text += more
    finally:
        with CancelScope(shield=True):
            await to_thread.run_sync(generation.close, limiter=limiter)
    return text


def _for_a_while(generation: Generation) -> tuple[str, bool]:
    """What is made in one slice, and whether that was the end."""
    made, until = [], time.monotonic() + _SLICE_S
    for piece in generation:
        made.append(piece)
        if time.monotonic() >= until:
            return "".join(made), False
    return "".join(made), True


async def while_connected(receive: Receive, work: Callable[[], Awaitable[T]]) -> T | None:
    """What `work` returns or raises; None when the client left before, and `work` was cancelled."""
    result: T | None = None
    failed: Exception | None = None

    async def watch() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        group.cancel_scope.cancel()

    async with create_task_group() as group:
        group.start_soon(watch)
        try:
            result = await work()
        except Exception as exc:  # noqa: BLE001 - raised again below: the task group would wrap it
            failed = exc
        group.cancel_scope.cancel()
    if failed is not None:
        raise failed
    return result


class EventStream(Response):
    """Server-sent events; closes `events` at the end, also when the client leaves in the middle."""

    media_type = "text/event-stream"

    def __init__(self, events: AsyncGenerator[bytes, None], headers: Mapping[str, str]) -> None:
        super().__init__(headers={"cache-control": "no-store", **headers})
        # Its length is not known beforehand.
        del self.headers["content-length"]
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send all events."""

        async def work() -> None:
            async with aclosing(self._events):
                await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
                async for event in self._events:
                    await send({"type": "http.response.body", "body": event, "more_body": True})
                await send({"type": "http.response.body", "body": b"", "more_body": False})

        await while_connected(receive, work)


def event(data: Json | str) -> bytes:
    """One server-sent event."""
    text = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return f"data: {text}\n\n".encode()
