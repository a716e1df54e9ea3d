"""Any OpenAI-compatible endpoint as an `Answerer` (a hosted model, a gateway, our own server), by their package."""

import os
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, Self

from finetune.errors import EvaluationError, Problem
from finetune.evaluation.faults import EvaluationUnavailable, fault, needed
from finetune.evaluation.models import Answer, Call, Question

_TIMEOUT_S: Final = 120.0
_CONNECT_S: Final = 10.0
#: Tries after the first one, with growing pauses, for what may pass: 408, 409, 429, 5xx and lost connections.
_RETRIES: Final = 4
_CONCURRENCY: Final = 4
_FIX: Final = "check the address and the model's name"
#: By status, where it says more.
_FIXES: Final = {
    401: "check the key",
    403: "check the key",
    404: f"{_FIX}; where models answer only once they are deployed, deploy it under this name",
}
#: Where OpenAI's key is for when no address is set.
_VENDOR: Final = "https://api.openai.com/v1"
#: The shortest value that may be a secret.
_KEY_LEAST: Final = 8
#: Why a choice may end without being an answer.
_FILTERED: Final = "content_filter"


@dataclass(frozen=True, kw_only=True)
class Address:
    """Where a model answers."""

    #: With the version: `https://api.openai.com/v1`.
    base_url: str
    #: The model's name there.
    model: str
    #: Name of the environment variable that holds the key; None: no key is needed.
    key_env: str | None = None


class Endpoint:
    """`Answerer` of a model behind an address. Greedy: temperature 0 wherever the model takes one."""

    def __init__(
        self,
        at: Address,
        *,
        environ: Mapping[str, str] = os.environ,
        concurrency: int = _CONCURRENCY,
        retries: int = _RETRIES,
        timeout_s: float = _TIMEOUT_S,
    ) -> None:
        """At most `concurrency` requests at a time, each bounded by `timeout_s` and repeated at most `retries` times.

        Raises EvaluationError: E853 (package missing), E854 (no key, or an address that is none).
        """
        self._at, self._concurrency = at, concurrency
        # Without what a file or a copy has left at its ends, as providers take it, too.
        key = environ.get(at.key_env, "").strip() if at.key_env else "none"
        if not key:
            raise fault("E854", f"{at.model} cannot be asked: {at.key_env} is not set", fix=f"set {at.key_env}")
        if not at.base_url.startswith(("http://", "https://")):
            raise fault("E854", f"{at.base_url!r} is no address", fix="give one that begins with http:// or https://")
        openai = needed(_package, "ft-orchestrator[eval]")
        import httpx2

        self._openai = openai
        self._client: Any = openai.OpenAI(
            api_key=key,
            base_url=at.base_url,
            max_retries=retries,
            timeout=httpx2.Timeout(timeout_s, connect=_CONNECT_S),
            # A redirect would take the key to a host that nobody has named.
            http_client=openai.DefaultHttpxClient(follow_redirects=False),
        )
        headers = _account(at, environ)
        # The package takes these from the environment, whatever address and key it was given.
        self._client.organization = self._client.project = None
        self._client._custom_headers = headers
        # A gateway's header may hold a key; short values are none, and stand in many a word.
        own = [value for value in headers.values() if len(value) >= _KEY_LEAST]
        self._secrets = [key, *own] if at.key_env else own
        self._form = _Form()

    def answers(self, questions: Sequence[Question], max_tokens: int) -> list[Answer]:
        """See `Answerer.answers`. Raises E854 when it refuses us or every question, E855 for what is no answer."""
        stop = threading.Event()

        def ask(question: Question) -> Answer | None:
            if stop.is_set():
                return None
            try:
                return self._ask(question, max_tokens)
            except BaseException:
                # Whoever comes after would be refused, too, and may be billed before.
                stop.set()
                raise

        with ThreadPoolExecutor(self._concurrency, "ask") as pool:
            futures = [pool.submit(ask, question) for question in questions]
        # The first that failed, in order of time, has set `stop`; the others are None or failed like it.
        errors = [error for future in futures if (error := future.exception()) is not None]
        if errors:
            raise errors[0]
        made = [answer for future in futures if (answer := future.result()) is not None]
        if made and all(answer.fault is not None for answer in made):
            raise fault("E854", f"{self._at.model} refuses every question", made[0].fault or "", "ask it yourself once")
        return made

    def close(self) -> None:
        """Give the connections back. Idempotent."""
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _ask(self, question: Question, max_tokens: int) -> Answer:
        form = self._form
        while True:
            try:
                made = self._client.chat.completions.create(
                    model=self._at.model, **form.fields(max_tokens), **_of(question)
                )
            except self._openai.APIError as error:
                if (other := form.other(self._clean(error))) is not None:
                    self._form = form = other
                    continue
                return self._refused(error)
            except ValueError as error:
                # The package reads a body that says it is JSON without a guard.
                raise self._unreadable() from error
            return self._read(made)

    def _refused(self, error: Any) -> Answer:
        """A question that is refused by itself is a fault of that answer; all else stops the evaluation."""
        status, said = getattr(error, "status_code", None), self._clean(error)
        if status in (400, 413, 422):
            return Answer(text="", fault=said)
        place = f"{self._at.model} at {self._at.base_url}"
        if status is None or status in (408, 409, 429) or status >= 500:
            problem = Problem(code="E854", what=f"{place} cannot be asked now", why=said, fix="try again later")
            raise EvaluationUnavailable(problem) from None
        raise fault("E854", f"{place} refuses to answer", said, _FIXES.get(status, _FIX)) from None

    def _read(self, made: Any) -> Answer:
        try:
            choice = made.choices[0]
            message, usage = choice.message, made.usage
            calls = tuple(
                Call(name=each.function.name, arguments=each.function.arguments or "")
                for each in message.tool_calls or ()
                if each.type == "function"
            )
            tokens = int(usage.completion_tokens or 0) if usage else 0
            cut = "the answer was held back by a content filter" if choice.finish_reason == _FILTERED else None
            return Answer(text=message.content or "", calls=calls, tokens=tokens, fault=cut)
        except (AttributeError, IndexError, TypeError, ValueError) as error:
            raise self._unreadable() from error

    def _unreadable(self) -> EvaluationError:
        return fault(
            "E855",
            f"what {self._at.base_url} sends is no chat completion",
            "an address without its version, or a page of a proxy, answers like this",
            "give the address as OpenAI's clients take it, mostly ending with /v1",
        )

    def _clean(self, error: Any) -> str:
        """What was said, on one line, without the key and what else is secret."""
        body = getattr(error, "body", None)
        said = str(body.get("message") or error) if isinstance(body, dict) else str(error)
        for secret in self._secrets:
            said = said.replace(secret, "***")
        return " ".join(said.split())[:300]


@dataclass(frozen=True)
class _Form:
    """How this model wants the same request to be written: reasoning models name the limit otherwise, and sample."""

    limit: str = "max_tokens"
    greedy: bool = True

    def fields(self, max_tokens: int) -> dict[str, Any]:
        return {self.limit: max_tokens, **({"temperature": 0} if self.greedy else {})}

    def other(self, said: str) -> "_Form | None":
        """The form that this refusal asks for; None when it asks for none that we have not tried."""
        if self.limit == "max_tokens" and "max_completion_tokens" in said:
            return _Form("max_completion_tokens", self.greedy)
        if self.greedy and "temperature" in said and "support" in said.lower():
            return _Form(self.limit, False)
        return None


def _account(at: Address, environ: Mapping[str, str]) -> dict[str, str]:
    """Headers that choose the account, where OpenAI's own variables speak of this address and this key; else none.

    A job that was created with them has a model that answers with them only.
    """

    def said(name: str) -> str:
        return environ.get(name, "").strip()

    theirs = said("OPENAI_BASE_URL") or _VENDOR
    if at.key_env != "OPENAI_API_KEY" or at.base_url.rstrip("/") != theirs.rstrip("/"):
        return {}
    named = {"OpenAI-Organization": said("OPENAI_ORG_ID"), "OpenAI-Project": said("OPENAI_PROJECT_ID")}
    lines = (line.partition(":") for line in said("OPENAI_CUSTOM_HEADERS").splitlines())
    own = {name.strip(): value.strip() for name, colon, value in lines if colon}
    return {**{name: value for name, value in named.items() if value}, **own}


def _of(question: Question) -> dict[str, Any]:
    tools = {"tools": list(question.tools)} if question.tools else {}
    return {"messages": list(question.messages), **tools}


def _package() -> Any:
    import openai

    return openai
