"""Calls of Together's API: one request each, by `httpx`, as the vendor's package retries and hides what it sends."""

import json
import re
import weakref
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urljoin, urlsplit

from finetune.errors import Problem, ProviderError, StateError
from finetune.files import unwritable
from finetune.jobs import Json
from finetune.ports import Clock
from finetune.providers.asking import Answer, Listener, Manners

if TYPE_CHECKING:
    import httpx

VENDOR: Final = "https://api.together.ai"
CONNECT_S: Final = 10.0
#: One piece of a file, bytes.
_PIECE: Final = 1024 * 1024
#: As often may the place of a file's bytes be elsewhere.
_HOPS: Final = 5
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
#: Of a storage's refusal so much is read, bytes.
_REFUSAL: Final = 64 * 1024


@dataclass(frozen=True, kw_only=True)
class Call:
    """One request, and what we want by it in words (`create the job`)."""

    doing: str
    path: str
    method: str = "GET"
    query: Mapping[str, Any] | None = None
    #: Sent as JSON; None: no body.
    body: Json | None = None
    #: Sent as a form of several parts instead.
    form: Mapping[str, str] | None = None
    #: Whether it would start something that costs.
    creating: bool = False


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """How long and how much one download may be, however steadily it comes."""

    bytes: int
    seconds: float


class Wire(Listener):
    """A client. Safe for threads. Nothing is retried here, and no redirect is followed that carries the key."""

    def __init__(self, title: str, clock: Clock, *, address: str, key: str, per_s: float) -> None:
        """`address` is without the version. Imports httpx."""
        import httpx

        super().__init__(title, clock, _MANNERS, secrets=(key,), per_s=per_s)
        self._httpx, self._address, self._key = httpx, address, key
        self._client = httpx.Client(follow_redirects=False)
        # Connections that nobody closes are told of when they are collected.
        weakref.finalize(self, self._client.close)

    def call(self, call: Call, wait_s: float) -> Json:
        """The JSON object of a good answer. Raises ProviderError."""
        answer = self.ask(call, wait_s)
        if not answer.good:
            raise self.refusal(call.doing, answer, creating=call.creating)
        return self.read(call.doing, answer, creating=call.creating)

    def rows(self, call: Call, wait_s: float) -> list[Json]:
        """The objects of a list, all of them: the API has no pages. Raises ProviderError."""
        told = self.call(call, wait_s)
        # Without any, the API may leave the list out; what says something else is no list.
        rows = told.get("data", "" if told else None)
        rows = [] if rows is None else rows
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise self.troubles.nonsense(call.doing, "a list without rows", creating=call.creating)
        return rows

    def ask(self, call: Call, wait_s: float) -> Answer:
        """The answer, good or not. Raises ProviderError when there is none."""
        form = {name: (None, value) for name, value in call.form.items()} if call.form is not None else None
        request = self._client.build_request(
            call.method,
            f"{self._address}{call.path}",
            params=call.query,
            json=call.body,
            files=form,
            headers=self._headers(),
            timeout=self._timeout(wait_s),
        )
        self._pace.take()
        try:
            response = self._client.send(request)
        except self._httpx.RequestError as error:
            raise self._silence(call.doing, error, creating=call.creating) from None
        return self._heard(_answer(response))

    def put(self, call: Call, url: str, pieces: "Slice", wait_s: float) -> Answer:
        """Send a part of a file to where the API said, without the key: the address itself is the permission.

        Raises ProviderError when there is no answer, or when the address is none that a file may be sent to.
        """
        for _ in range(_HOPS):
            self._check_place(call, url)
            try:
                response = self._client.put(
                    url,
                    content=pieces.read(),
                    headers={"Content-Length": str(pieces.size), **pieces.headers},
                    timeout=self._timeout(wait_s),
                )
            except (self._httpx.RequestError, self._httpx.InvalidURL) as error:
                raise self._silence(call.doing, error, creating=call.creating) from None
            if response.status_code not in _REDIRECTS or "location" not in response.headers:
                return _answer(response)
            url = urljoin(url, response.headers["location"])
        raise self.troubles.nonsense(call.doing, "the storage sends us from place to place")

    def fetch(self, call: Call, into: Path, wait_s: float, most: Bounds) -> Answer:
        """Write the body of a good answer to a file, piece by piece; the answer's text is empty then.

        Each piece is waited for `wait_s` at most. A place elsewhere is asked without the key. Raises ProviderError:
        for good when it is too much, ProviderUnavailable when it takes too long; StateError.
        """
        # What a server packs on its way would be counted unpacked, and may be more than was ever sent.
        plain = {"Accept-Encoding": "identity"}
        url, headers, query = f"{self._address}{call.path}", {**self._headers(), **plain}, call.query
        self._pace.take()
        ends = self._clock.now() + timedelta(seconds=most.seconds)
        for _ in range(_HOPS):
            try:
                with self._client.stream(
                    "GET", url, params=query, headers=headers, timeout=self._timeout(wait_s)
                ) as response:
                    if response.status_code in _REDIRECTS and "location" in response.headers:
                        there = urljoin(url, response.headers["location"])
                        self._check_place(call, there)
                        headers = headers if _origin(there) == _origin(url) else plain
                        url, query = there, None
                        continue
                    if not 200 <= response.status_code < 300:
                        return self._heard(self._told(response, ends))
                    self._write(call, response, into, (most, ends))
                    return Answer(response.status_code, dict(response.headers))
            except (self._httpx.RequestError, self._httpx.InvalidURL) as error:
                raise self._silence(call.doing, error, creating=call.creating) from None
        raise self.troubles.nonsense(call.doing, "the storage sends us from place to place")

    # Inside.

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._key}"}

    def _timeout(self, wait_s: float) -> "httpx.Timeout":
        return self._httpx.Timeout(wait_s, connect=min(CONNECT_S, wait_s))

    def _told(self, response: "httpx.Response", ends: datetime) -> Answer:
        """A refusal, of which the beginning is read."""
        read = b""
        for piece in response.iter_bytes():
            read += piece
            if len(read) >= _REFUSAL or self._clock.now() > ends:
                break
        return Answer(response.status_code, dict(response.headers), read[:_REFUSAL].decode(errors="replace"))

    def _write(self, call: Call, response: "httpx.Response", into: Path, bounds: tuple[Bounds, datetime]) -> None:
        (most, ends), written = bounds, 0
        try:
            with into.open("wb") as file:
                # As they come: to wait for a piece of some size would let a slow server hold us for ever.
                for piece in response.iter_bytes():
                    written += len(piece)
                    if written > most.bytes:
                        raise self._too_much(call, most)
                    if self._clock.now() > ends:
                        words = f"after {most.seconds:.0f} s it is not done, with {written} bytes"
                        raise self.troubles.unreachable(call.doing, words, sent=True)
                    file.write(piece)
        except OSError as error:
            raise StateError(unwritable(into.parent, error)) from None

    def _too_much(self, call: Call, most: Bounds) -> ProviderError:
        what = f"what Together sends is no archive of an adapter ({call.doing})"
        why, fix = f"it is more than {most.bytes} bytes", "look at the job's files in Together's console"
        return ProviderError(Problem(code="E411", what=what, why=why, fix=fix))

    def _check_place(self, call: Call, url: str) -> None:
        """An address for a file is encrypted, but where the API itself is not."""
        place = urlsplit(url)
        if not place.hostname or place.scheme not in ("https", urlsplit(self._address).scheme):
            raise self.troubles.nonsense(call.doing, "the address for the file is not encrypted, or none")


@dataclass(frozen=True, kw_only=True)
class Slice:
    """A part of a file, read anew each time that it is sent."""

    path: Path
    start: int
    #: Bytes.
    size: int
    headers: Mapping[str, str] = field(default_factory=dict)

    def read(self) -> Iterator[bytes]:
        """Its bytes, piece by piece."""
        left = self.size
        with self.path.open("rb") as file:
            file.seek(self.start)
            while left and (piece := file.read(min(_PIECE, left))):
                left -= len(piece)
                yield piece


def part(name: str) -> str:
    """An id as one part of a path."""
    return quote(name, safe="")


def _answer(response: "httpx.Response") -> Answer:
    return Answer(response.status_code, dict(response.headers), response.text)


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc


def _words(text: str) -> str:
    """What a refusal says: the message of its error, or the text as it came."""
    try:
        body = json.loads(text)
    except ValueError:
        return text
    error = body.get("error", body) if isinstance(body, dict) else body
    said = error.get("message") if isinstance(error, dict) else error
    return said if isinstance(said, str) else text


_MANNERS: Final = Manners(
    exhausted=re.compile(r"quota|billing|payment|credit|spending", re.IGNORECASE),
    request_ids=("x-request-id", "cf-ray"),
    words=_words,
)
