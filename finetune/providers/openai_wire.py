"""Calls of OpenAI's protocol through its own package: one request each, answers as plain JSON, faults as ours."""

import email.utils
import math
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC
from typing import TYPE_CHECKING, Any, Final

from finetune.errors import ProviderError
from finetune.jobs import Json
from finetune.ports import Clock
from finetune.providers.pace import Pace
from finetune.providers.troubles import Troubles

if TYPE_CHECKING:
    import openai

#: Codes and types of a 429 that no waiting mends; the last is Azure's.
_EXHAUSTED: Final = frozenset(
    {"insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "quotaExceeded"}
)
#: The code of a 403 that no other key mends: the organisation can create no jobs any more.
_ENDED: Final = "training_not_available"
#: A longer Retry-After is taken for so much, seconds: somebody looks again after a day.
_LONGEST_S: Final = 86_400.0
#: As many as the API gives at most.
_PAGE: Final = 100
#: Characters of a key, at least.
_KEY_LEAST: Final = 8
CONNECT_S: Final = 10.0
UPLOAD_S: Final = 600.0


class Wire:
    """A client of one API that speaks OpenAI's protocol. Safe for threads. Nothing is retried here."""

    def __init__(
        self,
        title: str,
        clock: Clock,
        *,
        address: str,
        key: str,
        headers: Mapping[str, str],
        timeout_s: float,
        per_s: float,
    ) -> None:
        """`headers` go with every request. Imports the package, which takes a second."""
        import httpx2
        import openai

        self._clock = clock
        self._pace = Pace(title, clock, per_s)
        # A gateway's header may hold a key; short values are none, and stand in many a word.
        self.troubles = Troubles(title, (key, *(value for value in headers.values() if len(value) >= _KEY_LEAST)))
        self._package = openai
        #: Faults of a connection that was never made, or of a request that cannot be sent: nothing can have been done.
        self._unsent = (
            *(httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout, httpx2.ProxyError),
            *(httpx2.LocalProtocolError, httpx2.UnsupportedProtocol),
        )
        #: For what takes long.
        self.patience = httpx2.Timeout(UPLOAD_S, connect=CONNECT_S)
        self.client = openai.OpenAI(
            api_key=key,
            base_url=address,
            max_retries=0,
            timeout=httpx2.Timeout(timeout_s, connect=CONNECT_S),
            # A redirect would send the data, and a create a second time, to a host that nobody has named.
            http_client=openai.DefaultHttpxClient(follow_redirects=False),
        )
        # A client of our own is not closed by the package when nobody has it any more.
        weakref.finalize(self, self.client.close)
        # The package takes these from the process's environment, whatever address and key it was given.
        self.client.organization = self.client.project = None
        self.client._custom_headers = headers

    def call(self, doing: str, ask: Callable[[], Any], *, needs: Sequence[str] = (), creating: bool = False) -> Json:
        """The JSON object of one answer; `ask` is a call of `with_raw_response`, `needs` fields that must be there.

        Raises ProviderError.
        """
        body = self.raw(doing, ask, creating=creating)
        try:
            value = body.json()
        except (ValueError, RecursionError) as error:
            raise self.troubles.nonsense(doing, f"no JSON: {error}", creating=creating) from None
        if not isinstance(value, dict):
            raise self.troubles.nonsense(doing, "JSON, but no object", creating=creating)
        if absent := [name for name in needs if value.get(name) in (None, "")]:
            raise self.troubles.nonsense(doing, f"{', '.join(absent)} is not there", creating=creating)
        return value

    def raw(self, doing: str, ask: Callable[[], Any], *, creating: bool = False) -> Any:
        """The answer as an `httpx2.Response`. Raises ProviderError."""
        self._pace.take()
        try:
            return ask().http_response
        except (self._package.APIError, ValueError) as error:
            fault = self._fault(doing, error, creating=creating)
        # Raised out here: the package's own error, with the vendor's unclean words in it, does not hang on ours.
        raise fault

    def pages(self, doing: str, ask: Callable[[Mapping[str, Any]], Any]) -> Iterator[Json]:
        """The rows of a list, page by page; `ask` gets `limit` and, from the second page on, `after`."""
        where: dict[str, Any] = {"limit": _PAGE}
        while True:
            page = self.call(doing, lambda: ask(where))  # noqa: B023 -- called before the loop goes on
            rows = page.get("data")
            if not isinstance(rows, list) or not all(map(_is_row, rows)):
                raise self.troubles.nonsense(doing, "a list without rows")
            yield from rows
            if not page.get("has_more") or not rows:
                return
            if rows[-1]["id"] == where.get("after"):
                raise self.troubles.nonsense(doing, "a list that gives the same page again")
            where = {"limit": _PAGE, "after": rows[-1]["id"]}

    def _fault(self, doing: str, error: Exception, *, creating: bool) -> ProviderError:
        if isinstance(error, self._package.APIStatusError):
            return self._refused(doing, error, creating=creating)
        if isinstance(error, self._package.APIConnectionError):
            cause = error.__cause__ or error
            words = f"{type(cause).__name__}: {cause}"
            return self.troubles.unreachable(doing, words, sent=not isinstance(cause, self._unsent), creating=creating)
        return self.troubles.nonsense(doing, str(error), creating=creating)

    def _refused(self, doing: str, error: "openai.APIStatusError", *, creating: bool) -> ProviderError:
        request_id = error.request_id or error.response.headers.get("apim-request-id")
        if error.code == _ENDED:
            return self.troubles.ended(doing, error.status_code, _words(error), request_id=request_id)
        after_s = self._after(error.response.headers)
        exhausted = not _EXHAUSTED.isdisjoint({str(error.code), str(error.type)})
        if error.status_code == 429 and after_s and not exhausted:
            self._pace.hush(after_s)
        return self.troubles.refused(
            doing,
            error.status_code,
            _words(error),
            request_id=request_id,
            creating=creating,
            after_s=after_s,
            exhausted=exhausted,
        )

    def _after(self, headers: Mapping[str, str]) -> float | None:
        """How long the API wants to be left alone, seconds: said as milliseconds, as seconds or as a date."""
        for name, unit_s in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
            try:
                said = float(headers.get(name, "")) * unit_s
            except ValueError:
                continue
            return min(max(0.0, said), _LONGEST_S) if not math.isnan(said) else None
        try:
            at = email.utils.parsedate_to_datetime(headers.get("retry-after", ""))
        except (ValueError, OverflowError):
            return None
        # "-0000" is a time in UTC without saying so.
        wait_s = ((at if at.tzinfo else at.replace(tzinfo=UTC)) - self._clock.now()).total_seconds()
        return min(max(0.0, wait_s), _LONGEST_S)


def _is_row(row: object) -> bool:
    return isinstance(row, dict) and isinstance(row.get("id"), str)


def _words(error: "openai.APIStatusError") -> str:
    body = error.body
    if isinstance(body, dict) and isinstance(body.get("message"), str):
        code = f"{body['code']}: " if body.get("code") else ""
        return f"{code}{body['message']}"
    return error.response.text
