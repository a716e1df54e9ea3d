"""The server's routes. A model that is not there is a 404; never does another answer in its place."""

import hmac
import json
import logging
import time
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from anyio import CapacityLimiter, to_thread
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from finetune.errors import FtError, NotFound
from finetune.jobs import Json
from finetune.ports import ModelSource
from finetune.serving import replies
from finetune.serving.asks import Generation
from finetune.serving.hosts import AllowedHosts
from finetune.serving.models import LoadRequest, Models
from finetune.serving.notices import Receive
from finetune.serving.notices import route as notices_route
from finetune.serving.pool import Pool
from finetune.serving.requests import ChatRequest, invalid, read_chat
from finetune.serving.streams import EventStream, event, pieces, while_connected, whole

log = logging.getLogger("finetune.serving")

Handler = Callable[[Request], Awaitable[Response]]

#: The figures of this moment in the text format of Prometheus. Blocks. Raises FtError.
Figures = Callable[[], bytes]
_FIGURES_TYPE = "text/plain; version=0.0.4; charset=utf-8"

#: Tokens that may be asked for at once; more wait for a token's time.
_THREADS = 32
#: The client is gone: nobody reads this.
_LEFT = Response(status_code=499)


@dataclass(frozen=True, kw_only=True)
class Sides:
    """What the server does beside answering; None: it has no such route."""

    #: Takes in what hosted APIs post to `/webhooks/PROVIDER`.
    notices: Receive | None = None
    #: What `/metrics` says.
    figures: Figures | None = None


def create_app(
    source: ModelSource,
    pool: Pool,
    *,
    api_key: str | None,
    runtime_adapters: bool = False,
    max_body_bytes: int = 4 * 1024 * 1024,
    allowed_hosts: Sequence[str] | None = None,
    sides: Sides | None = None,
) -> Starlette:
    """The server as an ASGI application; loads nothing.

    With `api_key` every route but /health and the webhooks wants `Authorization: Bearer KEY`. `runtime_adapters` opens
    `/v1/load_lora_adapter` and `/v1/unload_lora_adapter`: they read folders that the caller names, so switch them on
    only behind a key or on a loopback address. `allowed_hosts` are the names it answers to, without ports; None: to
    any. Without a key name the loopback ones, else any web page can reach the server through its reader's browser.
    """
    sides = sides or Sides()
    house = _House(Models(source, pool), pool, max_body_bytes)
    routes: list[tuple[str, Handler, str]] = [
        ("/v1/models", house.list_models, "GET"),
        # Ids hold slashes.
        ("/v1/models/{name:path}", house.show_model, "GET"),
        ("/v1/chat/completions", house.complete, "POST"),
    ]
    if runtime_adapters:
        routes += [
            ("/v1/load_lora_adapter", house.load_adapter, "POST"),
            ("/v1/unload_lora_adapter", house.unload_adapter, "POST"),
        ]
    if sides.figures is not None:
        routes.append(("/metrics", _page(sides.figures), "GET"))
    return Starlette(
        routes=[
            Route("/health", _health, methods=["GET"]),
            *([] if sides.notices is None else [notices_route(sides.notices)]),
            *(Route(path, _guarded(handler, api_key), methods=[method]) for path, handler, method in routes),
        ],
        exception_handlers={HTTPException: _http_error},
        middleware=[] if allowed_hosts is None else [Middleware(AllowedHosts, allowed_hosts)],
    )


class _House:
    """The handlers. What may block (store, pool, engine) runs in threads: the event loop only passes on."""

    def __init__(self, models: Models, pool: Pool, max_body_bytes: int) -> None:
        self._models = models
        self._pool = pool
        self._max_body_bytes = max_body_bytes
        # Apart, so that questions which wait for a base to load hold up no answer under way.
        self._starts = CapacityLimiter(_THREADS)
        self._limiter = CapacityLimiter(_THREADS)

    async def list_models(self, request: Request) -> Response:
        """GET /v1/models: a card for every name."""
        served = await to_thread.run_sync(self._models.served)
        return JSONResponse({"object": "list", "data": replies.cards(served)})

    async def show_model(self, request: Request) -> Response:
        """GET /v1/models/{id}: the card of one name."""
        name = request.path_params["name"]
        served = await to_thread.run_sync(self._models.served)
        for card in replies.cards(served):
            if card["id"] == name:
                return JSONResponse(card)
        return JSONResponse(replies.no_such_model(name, served), status_code=404)

    async def complete(self, request: Request) -> Response:
        """POST /v1/chat/completions."""
        asked = read_chat(await self._body(request))
        try:
            model = await to_thread.run_sync(self._models.resolve, asked.model)
        except NotFound:
            served = await to_thread.run_sync(self._models.served)
            return JSONResponse(replies.no_such_model(asked.model, served), status_code=404)
        generation = await to_thread.run_sync(self._pool.generate, model, asked.ask, limiter=self._starts)
        head = replies.Head(id=f"chatcmpl-{uuid.uuid4().hex}", model=model.id, created=int(time.time()))
        headers = {"x-ft-model": _plain(model.id), "x-ft-requested-model": _plain(asked.model)}
        if asked.stream:
            made = pieces(generation, self._limiter)
            # With the first piece at hand, what fails at the prompt still gets a status of its own.
            first = await anext(made, "")
            return EventStream(_events(head, first, made, generation, asked), headers)
        text = await while_connected(request.receive, lambda: whole(generation, self._limiter))
        if text is None:
            return _LEFT
        return JSONResponse(replies.completion(head, text, generation), headers=headers)

    async def load_adapter(self, request: Request) -> Response:
        """POST /v1/load_lora_adapter, as vLLM has it: `lora_name`, `lora_path`.

        vLLM serves one base; here the adapter's own config says on which it was trained. Where that names a folder,
        the body may name the base: `base_model`, a base model of this server.
        """
        body = await self._adapter_body(request)
        name, path, base = (_text(body, key) for key in ("lora_name", "lora_path", "base_model"))
        if not name or not path:
            return _refused("Both 'lora_name' and 'lora_path' must be provided.")
        if await to_thread.run_sync(self._models.taken, name):
            return _refused(
                f"The lora adapter '{name}' has already been loaded. Unload it first, or choose another name."
            )
        wanted = LoadRequest(name=name, path=Path(path), base_model=base)
        try:
            await to_thread.run_sync(self._models.load, wanted, datetime.now(UTC), limiter=self._starts)
        except FtError as exc:
            return _not_loaded(name, path, exc)
        return PlainTextResponse(f"Success: LoRA adapter '{name}' added successfully.")

    async def unload_adapter(self, request: Request) -> Response:
        """POST /v1/unload_lora_adapter, as vLLM has it: `lora_name`. Registered models cannot be unloaded by it."""
        name = _text(await self._adapter_body(request), "lora_name")
        if not name:
            return _refused("'lora_name' needs to be provided to unload a LoRA adapter.")
        if not await to_thread.run_sync(self._models.unload, name):
            message = f"The lora adapter '{name}' cannot be found."
            return JSONResponse(replies.error(message, "NotFoundError", code=404), status_code=404)
        return PlainTextResponse(f"Success: LoRA adapter '{name}' removed successfully.")

    async def _adapter_body(self, request: Request) -> Json:
        # A web page can send text to a loopback server unasked, JSON only after a preflight that we never grant.
        if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            raise invalid("content-type", "must be application/json", field=None)
        body = await self._body(request)
        if not isinstance(body, dict):
            raise invalid("the body", "must be a JSON object", field=None)
        return body

    async def _body(self, request: Request) -> object:
        read = bytearray()
        async for part in request.stream():
            read += part
            if len(read) > self._max_body_bytes:
                raise HTTPException(413, f"The body is larger than {self._max_body_bytes} bytes.")
        try:
            return json.loads(bytes(read))
        except (ValueError, RecursionError) as exc:
            raise invalid("the body", "is not JSON", field=None) from exc


async def _events(
    head: replies.Head,
    first: str,
    made: AsyncGenerator[str, None],
    generation: Generation,
    asked: ChatRequest,
) -> AsyncGenerator[bytes, None]:
    async with aclosing(made):
        yield event(replies.chunk(head, {"role": "assistant", "content": first}))
        try:
            async for piece in made:
                if piece:
                    yield event(replies.chunk(head, {"content": piece}))
        except FtError as exc:
            # The status is out already; an error event makes OpenAI's clients raise, and no [DONE] follows.
            yield event(_failed("a stream", exc)[1])
            return
        except Exception as exc:  # noqa: BLE001 - whatever it is, the caller is told that the answer is not whole
            yield event(_unexpected("a stream", exc))
            return
        yield event(replies.chunk(head, {}, generation.finish_reason))
        if asked.include_usage:
            yield event(replies.usage_chunk(head, generation))
        yield event("[DONE]")


def _page(figures: Figures) -> Handler:
    """GET /metrics."""

    async def show(request: Request) -> Response:
        return Response(await to_thread.run_sync(figures), media_type=_FIGURES_TYPE)

    return show


def _guarded(handler: Handler, api_key: str | None) -> Handler:
    """The handler behind the key, its errors as OpenAI's bodies, never a traceback."""

    async def guarded(request: Request) -> Response:
        if not _admitted(request, api_key):
            message = "The API key is missing or wrong. Send it as Authorization: Bearer KEY."
            body = replies.error(message, "invalid_request_error", code="invalid_api_key")
            return JSONResponse(body, status_code=401, headers={"www-authenticate": "Bearer"})
        try:
            return await handler(request)
        except FtError as exc:
            status, body = _failed(f"{request.method} {request.url.path}", exc)
            return JSONResponse(body, status_code=status)
        except ClientDisconnect:
            return _LEFT
        except HTTPException:
            raise
        except Exception as exc:  # noqa: BLE001 - the last line: whatever it is, the caller gets an answer in form
            return JSONResponse(_unexpected(f"{request.method} {request.url.path}", exc), status_code=500)

    return guarded


def _failed(where: str, exc: FtError) -> tuple[int, Json]:
    """Status and body of one of our errors; what is not the caller's is logged, with what it came from."""
    status, body = replies.failure(exc)
    if status >= 500:
        log.error("%s failed: %s", where, exc, exc_info=exc.__cause__)
    return status, body


def _unexpected(where: str, exc: Exception) -> Json:
    """Log a fault of ours, traceback and all, and say as much of it as a caller may know."""
    log.error("%s failed", where, exc_info=exc)
    return replies.error("The server failed at this request; its log says more.", "server_error")


def _admitted(request: Request, api_key: str | None) -> bool:
    if api_key is None:
        return True
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    # As bytes: compare_digest takes text in ASCII only. Headers arrive as latin-1.
    return scheme.lower() == "bearer" and hmac.compare_digest(key.strip().encode("latin-1"), api_key.encode())


async def _health(request: Request) -> Response:
    return JSONResponse({"status": "ok"})


async def _http_error(request: Request, exc: Exception) -> Response:
    if not isinstance(exc, HTTPException):
        raise exc
    message = exc.detail
    if exc.status_code in {404, 405}:
        message = f"There is no {request.method} {request.url.path} here."
    body = replies.error(message, "invalid_request_error", code=exc.status_code)
    return JSONResponse(body, status_code=exc.status_code, headers=exc.headers)


def _text(body: Json, key: str) -> str | None:
    value: Any = body.get(key)
    if value is not None and not isinstance(value, str):
        raise invalid(key, "must be a text", field=key)
    return value


def _refused(message: str) -> Response:
    return JSONResponse(replies.error(message, "InvalidUserInput", code=400), status_code=400)


def _not_loaded(name: str, path: str, exc: FtError) -> Response:
    problem = exc.problems[0]
    if problem.code == "E751":
        message = f"Loading lora {name} failed: No adapter found for {path}"
        return JSONResponse(replies.error(message, "NotFoundError", code=404), status_code=404)
    status = 500 if problem.code == "E758" else 400
    message = f"Loading lora {name} failed: {replies.sentence(problem)}"
    return JSONResponse(replies.error(message, "BadRequestError", param=problem.field, code=status), status)


def _plain(name: str) -> str:
    """The name as a header can carry it."""
    return quote(name, safe="@:/+ ,;=()[]!#$&'*?~")
