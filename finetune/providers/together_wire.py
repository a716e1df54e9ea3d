"""Calls of Together's API: one request each, by `httpx`, as the vendor's package retries and hides what it sends."""

import email.utils
import json
import re
import weakref
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urljoin, urlsplit

from finetune.errors import ProviderError, StateError
from finetune.files import unwritable
from finetune.jobs import Json
from finetune.ports import Clock
from finetune.providers.pace import Pace
from finetune.providers.troubles import Troubles

if TYPE_CHECKING:
    import httpx

VENDOR: Final = "https://api.together.ai"
CONNECT_S: Final = 10.0
#: One piece of a file, bytes.
_PIECE: Final = 1024 * 1024
#: As often may the place of a file's bytes be elsewhere.
_HOPS: Final = 5
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
#: Words in a 429 that no waiting mends; a mere rate limit has none of them.
_EXHAUSTED: Final = re.compile(r"quota|billing|payment|credit|spending", re.IGNORECASE)
_REQUEST_IDS: Final = ("x-request-id", "cf-ray")


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


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    #: Names in lower case.
    headers: Mapping[str, str] = field(default_factory=dict)
    text: str = ""

    @property
    def good(self) -> bool:
        """Not a refusal."""
        return 200 <= self.status < 300


class Wire:
    """A client. Safe for threads. Nothing is retried here, and no redirect is followed that carries the key."""

    def __init__(self, title: str, clock: Clock, *, address: str, key: str, per_s: float) -> None:
        """`address` is without the version. Imports httpx."""
        import httpx

        self._clock, self._address, self._key = clock, address, key
        self._pace = Pace(title, clock, per_s)
        self.troubles = Troubles(title, (key,))
        self._httpx = httpx
        self._client = httpx.Client(follow_redirects=False)
        # Connections that nobody closes are told of when they are collected.
        weakref.finalize(self, self._client.close)

    def call(self, call: Call, wait_s: float) -> Json:
        """The JSON object of a good answer. Raises ProviderError."""
        answer = self.ask(call, wait_s)
        if not answer.good:
            raise self.refusal(call, answer)
        return self.read(call, answer)

    def rows(self, call: Call, wait_s: float) -> list[Json]:
        """The objects of a list, all of them: the API has no pages. Raises ProviderError."""
        rows = self.call(call, wait_s).get("data")
        # Without any, the API may leave the list out.
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
            raise self._silence(call, error) from None
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
                raise self._silence(call, error) from None
            if response.status_code not in _REDIRECTS or "location" not in response.headers:
                return _answer(response)
            url = urljoin(url, response.headers["location"])
        raise self.troubles.nonsense(call.doing, "the storage sends us from place to place")

    def fetch(self, call: Call, into: Path, wait_s: float) -> Answer:
        """Write the body of a good answer to a file, piece by piece; the answer's text is empty then.

        A place elsewhere is asked without the key. Raises ProviderError, StateError.
        """
        url, headers, query = f"{self._address}{call.path}", self._headers(), call.query
        self._pace.take()
        for _ in range(_HOPS):
            try:
                with self._client.stream(
                    "GET", url, params=query, headers=headers, timeout=self._timeout(wait_s)
                ) as response:
                    if response.status_code in _REDIRECTS and "location" in response.headers:
                        there = urljoin(url, response.headers["location"])
                        self._check_place(call, there)
                        headers = headers if _origin(there) == _origin(url) else {}
                        url, query = there, None
                        continue
                    return self._heard(_written(response, into))
            except (self._httpx.RequestError, self._httpx.InvalidURL) as error:
                raise self._silence(call, error) from None
        raise self.troubles.nonsense(call.doing, "the storage sends us from place to place")

    def read(self, call: Call, answer: Answer) -> Json:
        """The answer's JSON object. Raises ProviderError when it has none."""
        try:
            value = json.loads(answer.text)
        except ValueError as error:
            raise self.troubles.nonsense(call.doing, f"no JSON: {error}", creating=call.creating) from None
        if not isinstance(value, dict):
            raise self.troubles.nonsense(call.doing, "JSON, but no object", creating=call.creating)
        return value

    def refusal(self, call: Call, answer: Answer) -> ProviderError:
        """What a refusal means."""
        if answer.status < 400:
            return self.troubles.nonsense(call.doing, f"status {answer.status}", creating=call.creating)
        words = _words(answer.text)
        return self.troubles.refused(
            call.doing,
            answer.status,
            words,
            request_id=next((answer.headers[name] for name in _REQUEST_IDS if name in answer.headers), None),
            creating=call.creating,
            after_s=self._after_s(answer),
            exhausted=answer.status == 402 or (answer.status == 429 and bool(_EXHAUSTED.search(words))),
        )

    # Inside.

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._key}"}

    def _timeout(self, wait_s: float) -> "httpx.Timeout":
        return self._httpx.Timeout(wait_s, connect=min(CONNECT_S, wait_s))

    def _silence(self, call: Call, error: Exception) -> ProviderError:
        unsent = (self._httpx.ConnectError, self._httpx.ConnectTimeout, self._httpx.PoolTimeout)
        sent = not isinstance(error, (*unsent, self._httpx.UnsupportedProtocol, self._httpx.InvalidURL))
        return self.troubles.unreachable(
            call.doing, f"{type(error).__name__}: {error}", sent=sent, creating=call.creating
        )

    def _check_place(self, call: Call, url: str) -> None:
        """An address for a file is encrypted, but where the API itself is not."""
        place = urlsplit(url)
        if not place.hostname or place.scheme not in ("https", urlsplit(self._address).scheme):
            raise self.troubles.nonsense(call.doing, "the address for the file is not encrypted, or none")

    def _heard(self, answer: Answer) -> Answer:
        if answer.status == 429:
            self._pace.hush(self._after_s(answer) or 0.0)
        return answer

    def _after_s(self, answer: Answer) -> float | None:
        """Retry-After in seconds, which may stand there as a number or as a date."""
        said = answer.headers.get("retry-after")
        if said is None:
            return None
        try:
            return max(0.0, float(said))
        except ValueError:
            pass
        try:
            at = email.utils.parsedate_to_datetime(said)
        except ValueError:
            return None
        return max(0.0, (at - self._clock.now()).total_seconds())


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


def _written(response: "httpx.Response", into: Path) -> Answer:
    if not 200 <= response.status_code < 300:
        response.read()
        return _answer(response)
    try:
        with into.open("wb") as file:
            for piece in response.iter_bytes(_PIECE):
                file.write(piece)
    except OSError as error:
        raise StateError(unwritable(into.parent, error)) from None
    return Answer(response.status_code, dict(response.headers))


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
