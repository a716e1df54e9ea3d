"""Calls of Mistral's API through its own package: one request each, answers as plain JSON, faults as ours.

The package sends; what came back is read from the answer itself. So a word that its data model does not know breaks
nothing.
"""

import json
import re
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

from finetune.jobs import Json
from finetune.ports import Clock
from finetune.providers.asking import Answer, Listener, Manners

if TYPE_CHECKING:
    import httpx

VENDOR: Final = "https://api.mistral.ai"
CONNECT_S: Final = 10.0
#: Rows of a page of a list.
_PAGE: Final = 100
#: Under which keys the API or the gateway before it says what is wrong.
_SAYS: Final = ("detail", "message", "description")


class Wire(Listener):
    """A client. Safe for threads. Nothing is retried here."""

    def __init__(
        self, title: str, clock: Clock, *, address: str, key: str, secrets: tuple[str, ...], per_s: float
    ) -> None:
        """Imports the package, which takes half a second. `secrets` are others beside `key`."""
        import httpx
        from mistralai.client import Mistral, errors

        super().__init__(title, clock, _MANNERS, secrets=(key, *secrets), per_s=per_s)
        self._httpx, self._errors = httpx, errors
        #: The answer of the request that this thread sent last.
        self._last = threading.local()
        # Redirects are not followed: a POST must not go elsewhere, nor the key.
        client = httpx.Client(event_hooks={"request": [_hurry], "response": [self._keep]})
        self.client = Mistral(
            # As a function, so that its configuration does not show it.
            api_key=lambda: key,
            server_url=address,
            client=client,
            # It would open an event loop to close one that nobody used.
            async_client=_NoClient(),
            # Its own one writes all headers to the log, the key too, when MISTRAL_DEBUG is set.
            debug_logger=_NoLog(),
        )

    def call(self, doing: str, send: Callable[[], object], *, creating: bool = False) -> Json:
        """The JSON object of a good answer. `send` makes one call of the package. Raises ProviderError."""
        answer = self.ask(doing, send, creating=creating)
        if not answer.good:
            raise self.refusal(doing, answer, creating=creating)
        return self.read(doing, answer, creating=creating)

    def ask(self, doing: str, send: Callable[[], object], *, creating: bool = False) -> Answer:
        """The answer, good or not. Raises ProviderError when there is none."""
        self._pace.take()
        self._last.answer = None
        try:
            send()
        except self._httpx.RequestError as error:
            raise self._silence(doing, error, creating=creating) from None
        except (self._errors.MistralError, self._errors.NoResponseError):
            # Refused, or good and not as the package's data model wants it: both are read below.
            pass
        answer: Answer | None = self._last.answer
        if answer is None:
            raise self.troubles.unreachable(doing, "the package has no answer", sent=True, creating=creating)
        return self._heard(answer)

    def pages(self, doing: str, send: Callable[[int, int], object]) -> Iterator[Json]:
        """The rows of a list, page by page, each once; `send` gets the page's number and its size."""
        seen: set[str] = set()
        page = 0
        while True:
            told = self.call(doing, lambda: send(page, _PAGE))  # noqa: B023 -- called before the loop goes on
            rows = told.get("data", [])
            if not isinstance(rows, list) or not all(isinstance(row, dict) and "id" in row for row in rows):
                raise self.troubles.nonsense(doing, "a list without rows")
            # What is created meanwhile moves the rest to the next page.
            new = [row for row in rows if row["id"] not in seen]
            yield from new
            seen.update(row["id"] for row in new)
            page += 1
            total = told.get("total")
            # The API may give fewer rows a page than asked for, so pages are not counted.
            if not new or (isinstance(total, int) and len(seen) >= total):
                return

    def _keep(self, response: "httpx.Response") -> None:
        response.read()
        self._last.answer = Answer(response.status_code, response.headers, response.text)


class _NoClient:
    """In the place of the asynchronous client, which we have no use for."""

    async def send(self, *args: Any, **more: Any) -> Any:
        raise NotImplementedError

    def build_request(self, *args: Any, **more: Any) -> Any:
        raise NotImplementedError

    async def aclose(self) -> None:
        """Nothing to close."""


class _NoLog:
    def debug(self, msg: str, *args: Any, **more: Any) -> None:
        """Nothing is logged."""


def _hurry(request: "httpx.Request") -> None:
    """The package has one figure for connecting and reading; a connection is there soon or not at all."""
    timeout = request.extensions.get("timeout") or {}
    connect_s = min(CONNECT_S, timeout.get("connect") or CONNECT_S)
    request.extensions = {**request.extensions, "timeout": {**timeout, "connect": connect_s}}


def _words(text: str) -> str:
    """What a refusal says: the words under `detail`, or field by field, or the text as it came."""
    try:
        body = json.loads(text)
    except ValueError:
        return text
    if not isinstance(body, dict):
        return text
    said = [_said(body[name]) for name in _SAYS if body.get(name)]
    return " ".join(said) or text


def _said(value: Any) -> str:
    if isinstance(value, list):
        return "; ".join(_said(each) for each in value)
    if isinstance(value, dict):
        place = ".".join(str(each) for each in value.get("loc", ())[1:])
        return f"{place}: {value['msg']}" if "msg" in value else json.dumps(value)
    return str(value)


_MANNERS: Final = Manners(
    exhausted=re.compile(r"quota|billing|payment|monthly|credit", re.IGNORECASE),
    request_ids=("mistral-correlation-id", "x-kong-request-id"),
    words=_words,
)
