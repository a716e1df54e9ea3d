"""Calls of Fireworks' API: one request each, answers as plain JSON, faults as ours.

Signed addresses belong to a storage behind it. They carry their own right to be used, so the key is never sent there,
and they are never shown.
"""

import functools
import json
import re
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from finetune.errors import ProviderError, StateError
from finetune.files import unwritable
from finetune.jobs import Json
from finetune.ports import Clock
from finetune.providers.asking import Answer, Listener, Manners

if TYPE_CHECKING:
    import ssl

    import httpx

TITLE: Final = "Fireworks"
VENDOR: Final = "https://api.fireworks.ai"
CONNECT_S: Final = 10.0
#: For a data set of a gigabyte.
_TRANSFER_S: Final = 600.0
#: For an adapter, from the first byte to the last.
_DOWNLOAD_S: Final = 1800.0
#: Rows of a page of a list, the API's most.
_PAGE: Final = 200
#: Of a refusal of the storage, bytes: an XML document of a few lines.
_MOST_WORDS: Final = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Ask:
    """One request to the API."""

    method: str
    #: From `/v1` on.
    path: str
    params: Mapping[str, str] | None = None
    body: Json | None = None


class Wire(Listener):
    """A client. Safe for threads. Nothing is retried here."""

    def __init__(
        self, clock: Clock, *, address: str, key: str, secrets: tuple[str, ...], per_s: float, read_s: float
    ) -> None:
        """`secrets` are others beside `key`; `read_s` bounds the wait for an answer, in seconds."""
        import httpx

        super().__init__(TITLE, clock, _MANNERS, secrets=(key, *secrets), per_s=per_s)
        self._httpx, verify = httpx, _certificates()
        self._address, self._read_s = address, read_s
        # Redirects are not followed: a POST must not go elsewhere, nor the key.
        self._client = httpx.Client(
            base_url=address, headers={"Authorization": f"Bearer {key}"}, timeout=self._timeout(read_s), verify=verify
        )
        self._storage = httpx.Client(timeout=self._timeout(_TRANSFER_S), verify=verify)
        # Nobody closes a provider.
        for client in (self._client, self._storage):
            weakref.finalize(self, client.close)

    def call(self, doing: str, ask: Ask, *, creating: bool = False) -> Json:
        """The JSON object of a good answer. Raises ProviderError."""
        answer = self.ask(doing, ask, creating=creating)
        if not answer.good:
            raise self.refusal(doing, answer, creating=creating)
        return self.read(doing, answer, creating=creating)

    def known(self, doing: str, name: str, *, within_s: float | None = None) -> Json | None:
        """The resource of this whole name, or None: the API says that it has none. Raises ProviderError."""
        answer = self.ask(doing, Ask(method="GET", path=f"/v1/{name}"), within_s=within_s)
        if answer.status == 404:
            # Anything on the way may say 404; only the API says it in its own form.
            self.read(doing, answer)
            return None
        if not answer.good:
            raise self.refusal(doing, answer)
        told = self.read(doing, answer)
        if told.get("name") != name:
            raise self.troubles.nonsense(doing, "the answer is about something else")
        return told

    def ask(self, doing: str, ask: Ask, *, creating: bool = False, within_s: float | None = None) -> Answer:
        """The answer, good or not. Raises ProviderError when there is none."""
        self._pace.take()
        timeout = self._timeout(min(self._read_s, within_s or self._read_s))
        try:
            got = self._client.request(ask.method, ask.path, params=ask.params, json=ask.body, timeout=timeout)
        except self._httpx.RequestError as error:
            raise self._silence(doing, error, creating=creating) from None
        return self._heard(Answer(got.status_code, got.headers, got.text))

    def pages(self, doing: str, path: str, key: str, *, only: str | None = None) -> Iterator[Json]:
        """The rows under `key` of a list, page by page, each once; with a filter, those that pass it."""
        seen: set[str] = set()
        first = {"pageSize": str(_PAGE), **({"filter": only} if only else {})}
        params = first
        while True:
            told = self.call(doing, Ask(method="GET", path=path, params=params))
            rows = told.get(key) or []
            if not isinstance(rows, list) or not all(isinstance(row, dict) and "name" in row for row in rows):
                raise self.troubles.nonsense(doing, "a list without rows")
            new = [row for row in rows if row["name"] not in seen]
            yield from new
            seen.update(row["name"] for row in new)
            token = told.get("nextPageToken")
            if not token or not new:
                return
            params = {**first, "pageToken": str(token)}

    # Signed addresses.

    def put(self, doing: str, url: object, path: Path) -> None:
        """Put the file there. Raises ProviderError."""
        size = path.stat().st_size
        headers = {"Content-Type": "application/octet-stream", "X-Goog-Content-Length-Range": f"{size},{size}"}
        headers["Content-Length"] = str(size)
        place = self._checked(doing, url)
        try:
            with path.open("rb") as content:
                got = self._storage.put(place, content=content, headers=headers)
        except self._httpx.RequestError as error:
            raise self._silence(doing, error) from None
        if got.status_code >= 300:
            raise self._stored(doing, got.status_code, got.text)

    def get(self, doing: str, url: object, *, most: int) -> bytes | None:
        """What is there, at most so many bytes; None: nothing is there (yet). Raises ProviderError."""
        with self._kept_at(doing, url) as got:
            if got.status_code == 404:
                return None
            return b"".join(self._pieces(doing, got, most=most, within_s=self._read_s))

    def download(self, doing: str, url: object, path: Path, *, most: int) -> None:
        """Write what is there to a file, at most so many bytes, within half an hour. Raises ProviderError, StateError.

        What was written before an error stays.
        """
        try:
            with self._kept_at(doing, url) as got, path.open("wb") as file:
                for piece in self._pieces(doing, got, most=most, within_s=_DOWNLOAD_S):
                    file.write(piece)
        except OSError as error:
            raise StateError(unwritable(path.parent, error)) from None

    @contextmanager
    def _kept_at(self, doing: str, url: object) -> "Iterator[httpx.Response]":
        """What the storage answers; its content comes while it is read."""
        # Packed content could be a thousand times what came over the wire.
        headers, timeout = {"Accept-Encoding": "identity"}, self._timeout(self._read_s)
        try:
            with self._storage.stream("GET", self._checked(doing, url), headers=headers, timeout=timeout) as got:
                yield got
        except self._httpx.RequestError as error:
            raise self._silence(doing, error) from None

    def _pieces(self, doing: str, got: "httpx.Response", *, most: int, within_s: float) -> Iterator[bytes]:
        """The content of a good answer, piece by piece. Raises ProviderError, also when it is too long or too slow."""
        until = self._clock.now() + timedelta(seconds=within_s)
        if got.status_code >= 300:
            words = b"".join(self._within(doing, got, _MOST_WORDS, until)).decode("utf-8", "replace")
            raise self._stored(doing, got.status_code, words)
        if got.headers.get("content-encoding", "identity") != "identity":
            raise self.troubles.nonsense(doing, f"packed as {got.headers['content-encoding']}, unasked")
        yield from self._within(doing, got, most, until)

    def _within(self, doing: str, got: "httpx.Response", most: int, until: datetime) -> Iterator[bytes]:
        size = 0
        # As it comes: what trickles would never fill a piece of a chosen size, and the time would not be looked at.
        for piece in got.iter_raw():
            size += len(piece)
            if size > most:
                raise self.troubles.nonsense(doing, f"more than {most} bytes")
            if self._clock.now() > until:
                raise self.troubles.unreachable(doing, f"too slow: {size} bytes so far", sent=True)
            yield piece

    def _checked(self, doing: str, url: object) -> str:
        """The address, which is as safe as the API's own."""
        schemes = {"https", urlsplit(self._address).scheme}
        parts = urlsplit(url) if isinstance(url, str) else None
        if parts is None or parts.scheme not in schemes or not parts.hostname:
            raise self.troubles.nonsense(doing, "an address that is none, or not encrypted")
        try:
            return str(self._httpx.URL(parts.geturl()))
        except self._httpx.InvalidURL:
            raise self.troubles.nonsense(doing, "an address that is none") from None

    def _stored(self, doing: str, status: int, text: str) -> ProviderError:
        """A refusal of the storage. The address may have run out, and another one is made for the next try."""
        if status < 500 and status != 429:
            code = re.search(r"<Code>(\w{1,60})</Code>", text)
            return self.troubles.nonsense(doing, f"its storage says {status} {code[1] if code else ''}".rstrip())
        return self.troubles.refused(doing, status, "its storage is in trouble")

    def _timeout(self, read_s: float) -> "httpx.Timeout":
        return self._httpx.Timeout(read_s, connect=min(CONNECT_S, read_s))


@functools.cache
def _certificates() -> "ssl.SSLContext":
    """Of all clients: reading them takes a tenth of a second."""
    import httpx

    return httpx.create_ssl_context()


def _words(text: str) -> str:
    """What a refusal says: its message, which may stand under `error`, or the text as it came."""
    try:
        body: Any = json.loads(text)
    except ValueError:
        return text
    for _ in range(2):
        if not isinstance(body, dict):
            break
        if isinstance(body.get("message"), str) and body["message"]:
            return str(body["message"])
        body = body.get("error")
    return body if isinstance(body, str) and body else text


_MANNERS: Final = Manners(
    exhausted=re.compile(r"quota|billing|payment|monthly|credit|spend", re.IGNORECASE),
    request_ids=("x-request-id",),
    words=_words,
)
