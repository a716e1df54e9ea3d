"""HTTP to a gateway: one client, one way to say what went wrong. Keys are sent, never logged, kept or shown."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import httpx

from finetune.errors import GatewayError, GatewayUnavailable, Problem, UsageError
from finetune.jobs import Json

#: A gateway is near; one that takes no connection for so long is not there.
_CONNECT_S: Final = 5.0
_WORDS: Final = 400
_LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})
#: A gateway may want time (a timeout at its side, too many calls): the same call may succeed later.
_LATER: Final = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS})
#: Connections that were there and broke before the answer was whole.
_BROKEN: Final = (httpx.ReadError, httpx.WriteError, httpx.CloseError, httpx.RemoteProtocolError)


@dataclass(frozen=True, kw_only=True)
class Place:
    """Which gateway is called, and how its user would name it."""

    #: As in `register.gateways`: `vllm`.
    gateway: str
    #: `http://127.0.0.1:8000`, without `/v1`.
    url: str
    #: The variable that `url` was read from; None when it does not come from one.
    url_name: str | None = None
    #: None: it asks for none.
    key: str | None = field(default=None, repr=False)
    #: The variable that `key` was read from, or would be.
    key_name: str | None = None
    #: Where its own words are to be found: `the log of vLLM`.
    log: str = "its log"


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What came back, whatever its status."""

    place: Place
    #: `POST /v1/models`, for messages.
    call: str
    status: int
    #: Names in lower case.
    headers: Mapping[str, str]
    text: str

    @property
    def good(self) -> bool:
        """Whether it was taken: 200 to 299."""
        return HTTPStatus.OK <= self.status < HTTPStatus.MULTIPLE_CHOICES

    @property
    def words(self) -> str:
        """What it says against the call, in its own words, shortened, without the key. Empty when it says nothing."""
        said = _message(self.text) or self.text
        if self.place.key:
            said = said.replace(self.place.key, "***")
        said = " ".join(said.split())
        return said if len(said) <= _WORDS else f"{said[:_WORDS]}..."

    def taken(self) -> "Answer":
        """Itself when it is good. Raises GatewayUnavailable for 5xx, 408, 425 and 429, else GatewayError."""
        if self.good:
            return self
        later = self.status >= HTTPStatus.INTERNAL_SERVER_ERROR or self.status in _LATER
        raise (GatewayUnavailable if later else GatewayError)(self._problem(later))

    def parsed(self) -> Any:
        """Its JSON. Raises as `taken`, and GatewayError when it is none: another server listens there."""
        self.taken()
        try:
            return json.loads(self.text)
        except ValueError:
            raise GatewayError(
                Problem(
                    code="E821",
                    what=f"{self.place.gateway} at {shown(self.place.url)} does not answer {self.call} with JSON",
                    why=f"it says: {self.words[:120]}" if self.text else "its answer is empty",
                    fix=_look(self.place, "another server may listen there"),
                )
            ) from None

    def object(self) -> Json:
        """Its JSON object. Raises as `parsed`, and GatewayError when it is another value."""
        value = self.parsed()
        if not isinstance(value, dict):
            raise GatewayError(
                Problem(
                    code="E821",
                    what=f"{self.place.gateway} answers {self.call} with something else than an object",
                    why=f"it says: {self.words[:120]}",
                    fix=_look(self.place, "another server, or another version of it, may listen there"),
                )
            )
        return value

    def _problem(self, later: bool) -> Problem:
        denied = self.status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
        if denied and self.place.key_name:
            fix = f"set {self.place.key_name} to a key that it accepts for this"
        elif later:
            fix = _look(self.place, "repeat it later")
        else:
            fix = _look(self.place)
        return Problem(
            code="E820" if later else "E821",
            what=f"{self.place.gateway} at {shown(self.place.url)} refuses {self.call} with status {self.status}",
            why=f"it says: {self.words}" if self.words else "it gives no reason",
            fix=fix,
        )


@dataclass(frozen=True, kw_only=True)
class Chat:
    """The first choice of a chat completion."""

    text: str
    #: The answer's `model`; None when it has none.
    model: str | None
    #: Names in lower case.
    headers: Mapping[str, str]


class Calls:
    """Calls of one gateway. Each takes a connection of its own, so a server that was restarted is met at once.

    Safe for several threads. A GET whose connection breaks is sent once more at once; nothing else is repeated here. No
    redirect is followed: a key goes nowhere else.
    """

    def __init__(self, place: Place, *, timeout_s: float = 30.0) -> None:
        """`timeout_s` is the longest silence of the server. Raises UsageError for an address or a key that is none."""
        # A file's last line break often comes along with a key.
        place = self.place = replace(place, key=(place.key or "").strip() or None)
        near = _host(place) in _LOOPBACK
        _guard_key(place)
        self._client = httpx.Client(
            base_url=place.url.rstrip("/"),
            headers={"Authorization": f"Bearer {place.key}"} if place.key else {},
            timeout=httpx.Timeout(timeout_s, connect=min(timeout_s, _CONNECT_S)),
            limits=httpx.Limits(max_keepalive_connections=0),
            # A proxy of the environment is for the world outside.
            trust_env=not near,
        )

    def get(self, path: str, **params: str) -> Any:
        """The JSON at `path`. Raises as `send` and `Answer.parsed`."""
        return self.send("GET", path, params=params).parsed()

    def post(self, path: str, body: Json) -> Any:
        """The JSON that answers `body`. Raises as `send` and `Answer.parsed`."""
        return self.send("POST", path, body).parsed()

    def send(
        self, method: str, path: str, body: Json | None = None, *, params: Mapping[str, str] | None = None
    ) -> Answer:
        """What answers, whatever its status. Raises GatewayUnavailable when nothing does."""
        return self._sent(method, path, json=body, params=params or None)

    def upload(self, path: str, file: Path) -> Answer:
        """What answers to a POST of the file's bytes. Raises as `send`, and OSError when it cannot be read."""
        with file.open("rb") as content:
            return self._sent("POST", path, content=content, headers={"content-type": "application/octet-stream"})

    def _sent(self, method: str, path: str, **more: Any) -> Answer:
        try:
            try:
                answer = self._client.request(method, path, **more)
            except _BROKEN:
                # A question may be asked twice; whether what changes something was done, the caller finds out.
                if method != "GET":
                    raise
                answer = self._client.request(method, path, **more)
        except httpx.TransportError as error:
            raise GatewayUnavailable(self._silence(f"{method} {path}", error)) from None
        headers = {name.lower(): value for name, value in answer.headers.items()}
        return Answer(
            place=self.place, call=f"{method} {path}", status=answer.status_code, headers=headers, text=answer.text
        )

    def chat(self, model: str, messages: Sequence[Json], *, max_tokens: int, **more: Any) -> Chat:
        """Ask by `POST /v1/chat/completions`, greedily; `more` holds further fields.

        Raises as `send` and `said`.
        """
        return said(model, self.ask(model, messages, max_tokens=max_tokens, **more))

    def ask(self, model: str, messages: Sequence[Json], *, max_tokens: int, **more: Any) -> Answer:
        """What answers a chat, whatever its status. Raises as `send`."""
        body = {"model": model, "messages": list(messages), "max_tokens": max_tokens, "temperature": 0, **more}
        return self.send("POST", "/v1/chat/completions", body)

    def _silence(self, call: str, error: httpx.TransportError) -> Problem:
        set_by = f", or set {self.place.url_name}" if self.place.url_name else ""
        # A library may put the whole address into its words, with what it was called with.
        told = "no answer in time" if isinstance(error, httpx.TimeoutException) else str(error) or type(error).__name__
        return Problem(
            code="E820",
            what=f"{self.place.gateway} at {shown(self.place.url)} does not answer {call}",
            why=told.replace(self.place.key, "***") if self.place.key else told,
            fix=f"see that it runs ({self.place.log}){set_by}",
        )


def said(model: str, answer: Answer) -> Chat:
    """What `model` says in the answer. Raises as `Answer.object`, and GatewayError for an answer without a text."""
    body = answer.object()
    try:
        text = body["choices"][0]["message"]["content"]
    except (KeyError, IndexError, TypeError):
        text = None
    if not isinstance(text, str):
        raise GatewayError(
            Problem(
                code="E821",
                what=f"{answer.place.gateway} answers a chat as {model} without a text",
                why=f"it says: {answer.words[:200]}",
                fix=_look(answer.place),
            )
        )
    named = body.get("model")
    return Chat(text=text, model=named if isinstance(named, str) else None, headers=answer.headers)


def shown(url: str) -> str:
    """The address without a user, a password or a query, for messages."""
    parts = urlsplit(url)
    port = f":{parts.port}" if parts.port else ""
    host = f"[{parts.hostname}]" if parts.hostname and ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}{port}{parts.path}".rstrip("/")


def _host(place: Place) -> str:
    """The host of its address. Raises UsageError."""
    try:
        parts = urlsplit(place.url)
        host = parts.hostname if parts.scheme in ("http", "https") and parts.port != 0 else None
    except ValueError:
        host = None
    if host is None:
        name = place.url_name or "the address"
        raise UsageError(
            Problem(
                code="E825",
                what=f"{name} of the gateway {place.gateway} is no address",
                why="it has to begin with http:// or https:// and name a host",
                fix=f"set {name} to something like http://127.0.0.1:8000",
            )
        )
    return host


def _guard_key(place: Place) -> None:
    """Raises UsageError for a key that no header can carry: libraries would put it into their own error's words."""
    if place.key and not (place.key.isascii() and place.key.isprintable()):
        name = place.key_name or "the key"
        raise UsageError(
            Problem(
                code="E825",
                what=f"{name} of the gateway {place.gateway} is no key",
                why="it has line breaks, or letters that no key has",
                fix=f"set {name} anew",
            )
        )


def _message(text: str) -> str | None:
    """The message in an error's body, in the forms that servers give it; None when there is none."""
    try:
        said = json.loads(text)
    except ValueError:
        return None
    for name in ("error", "detail", "message"):
        if isinstance(said, dict) and said.get(name):
            said = said[name]
    return said if isinstance(said, str) else json.dumps(said)


def _look(place: Place, also: str = "") -> str:
    return f"look into {place.log}" + (f"; {also}" if also else "")
