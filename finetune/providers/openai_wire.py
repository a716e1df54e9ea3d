"""Calls of OpenAI's protocol through its own package: one request each, answers as plain JSON, faults as ours."""

import email.utils
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from finetune.errors import ProviderError
from finetune.jobs import Json
from finetune.ports import Clock
from finetune.providers.pace import Pace
from finetune.providers.troubles import Troubles

if TYPE_CHECKING:
    import openai

#: Codes of a 429 that no waiting mends.
_EXHAUSTED: Final = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"})
#: As many as the API gives at most.
_PAGE: Final = 100
CONNECT_S: Final = 10.0
UPLOAD_S: Final = 600.0


class Wire:
    """A client of one API that speaks OpenAI's protocol. Safe for threads. Nothing is retried here."""

    def __init__(
        self,
        title: str,
        clock: Clock,
        *,
        base_url: str | None,
        key: str,
        timeout_s: float,
        per_s: float,
    ) -> None:
        """`base_url` None is the vendor's own. Imports the package, which takes a second."""
        import httpx2
        import openai

        self._clock = clock
        self._pace = Pace(title, clock, per_s)
        self.troubles = Troubles(title, (key,))
        self._package = openai
        #: Faults of a connection that was never made: nothing can have been done.
        self._unsent = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)
        # A secret of the environment for webhooks, an organisation or a project must not slip in by the package's
        # own defaults where another address is meant; what is wanted is handed over by name.
        self.client: openai.OpenAI = openai.OpenAI(
            api_key=key,
            base_url=base_url,
            max_retries=0,
            timeout=httpx2.Timeout(timeout_s, connect=CONNECT_S),
        )

    def call(self, doing: str, ask: Callable[[], Any], *, creating: bool = False) -> Json:
        """The JSON object of one answer; `ask` is a call of `with_raw_response`. Raises ProviderError."""
        body = self.raw(doing, ask, creating=creating)
        try:
            value = body.json()
        except ValueError as error:
            raise self.troubles.nonsense(doing, f"no JSON: {error}", creating=creating) from None
        if not isinstance(value, dict):
            raise self.troubles.nonsense(doing, "JSON, but no object", creating=creating)
        return value

    def raw(self, doing: str, ask: Callable[[], Any], *, creating: bool = False) -> Any:
        """The answer as an `httpx2.Response`. Raises ProviderError."""
        self._pace.take()
        try:
            return ask().http_response
        except self._package.APIStatusError as error:
            raise self._refused(doing, error, creating=creating) from None
        except self._package.APIConnectionError as error:
            cause = error.__cause__ or error
            sent = not isinstance(cause, self._unsent)
            words = f"{type(cause).__name__}: {cause}"
            raise self.troubles.unreachable(doing, words, sent=sent, creating=creating) from None
        except (self._package.APIError, ValueError) as error:
            raise self.troubles.nonsense(doing, str(error), creating=creating) from None

    def pages(self, doing: str, ask: Callable[[Mapping[str, Any]], Any]) -> Iterator[Json]:
        """The rows of a list, page by page; `ask` gets `limit` and, from the second page on, `after`."""
        where: dict[str, Any] = {"limit": _PAGE}
        while True:
            page = self.call(doing, lambda: ask(where))  # noqa: B023 -- called before the loop goes on
            rows = page.get("data")
            if not isinstance(rows, list) or not all(isinstance(row, dict) and "id" in row for row in rows):
                raise self.troubles.nonsense(doing, "a list without rows")
            yield from rows
            if not page.get("has_more") or not rows:
                return
            where = {"limit": _PAGE, "after": rows[-1]["id"]}

    def _refused(self, doing: str, error: "openai.APIStatusError", *, creating: bool) -> ProviderError:
        after_s = self._after(error.response.headers)
        if error.status_code == 429 and after_s:
            self._pace.hush(after_s)
        return self.troubles.refused(
            doing,
            error.status_code,
            _words(error),
            request_id=error.request_id or error.response.headers.get("apim-request-id"),
            creating=creating,
            after_s=after_s,
            exhausted=error.code in _EXHAUSTED,
        )

    def _after(self, headers: Mapping[str, str]) -> float | None:
        """Retry-After in seconds, which may stand there as a number or as a date."""
        said = headers.get("retry-after")
        if said is None:
            return None
        try:
            return max(0.0, float(said))
        except ValueError:
            pass
        try:
            at: datetime = email.utils.parsedate_to_datetime(said)
        except ValueError:
            return None
        return max(0.0, (at - self._clock.now()).total_seconds())


def _words(error: "openai.APIStatusError") -> str:
    body = error.body
    if isinstance(body, dict) and isinstance(body.get("message"), str):
        code = f"{body['code']}: " if body.get("code") else ""
        return f"{code}{body['message']}"
    return error.response.text
