"""What clients of a vendor's API share: an answer, what it means in our words, and how far a job was read."""

import email.utils
import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Self

from finetune.errors import ProviderError
from finetune.jobs import Event, Json
from finetune.ports import Clock
from finetune.providers.pace import LONGEST_S, Pace
from finetune.providers.troubles import Troubles

#: Statuses by which an API says that something is not there, or is not there any more.
_GONE = frozenset({404, 405, 410})


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    #: Names in lower case, or of a kind that does not mind.
    headers: Mapping[str, str] = field(default_factory=dict)
    text: str = ""

    @property
    def good(self) -> bool:
        """Not a refusal."""
        return 200 <= self.status < 300


@dataclass(frozen=True, kw_only=True)
class Manners:
    """How an API refuses."""

    #: Words in a 429 that no waiting mends; a mere rate limit has none of them.
    exhausted: re.Pattern[str]
    #: Headers of which the first that is there names the request.
    request_ids: tuple[str, ...]
    #: From the text of a refusal, what it says.
    words: Callable[[str], str]


class Listener:
    """The half of a client that understands. Safe for threads."""

    def __init__(self, title: str, clock: Clock, manners: Manners, *, secrets: tuple[str, ...], per_s: float) -> None:
        """`title` as in `Troubles`, `per_s` as in `Pace`."""
        self._clock, self._manners = clock, manners
        self._pace = Pace(title, clock, per_s)
        self.troubles = Troubles(title, secrets)

    def read(self, doing: str, answer: Answer, *, creating: bool = False) -> Json:
        """The answer's JSON object. Raises ProviderError when it has none."""
        try:
            value = json.loads(answer.text)
        except ValueError as error:
            raise self.troubles.nonsense(doing, f"no JSON: {error}", creating=creating) from None
        if not isinstance(value, dict):
            raise self.troubles.nonsense(doing, "JSON, but no object", creating=creating)
        return value

    def refusal(self, doing: str, answer: Answer, *, creating: bool = False) -> ProviderError:
        """What a refusal means."""
        if answer.status < 400:
            return self.troubles.nonsense(doing, f"status {answer.status}", creating=creating)
        if answer.status in _GONE and not _is_object(answer.text):
            # A proxy's page, or another server's: it takes no job away.
            return self.troubles.nonsense(doing, f"status {answer.status} without a word of the API", creating=creating)
        words, names = self._manners.words(answer.text), self._manners.request_ids
        exhausted = answer.status == 402 or (answer.status == 429 and bool(self._manners.exhausted.search(words)))
        return self.troubles.refused(
            doing,
            answer.status,
            words,
            request_id=next((answer.headers[name] for name in names if name in answer.headers), None),
            creating=creating,
            after_s=self._after_s(answer),
            exhausted=exhausted,
        )

    def _heard(self, answer: Answer) -> Answer:
        """The answer, after which there may have to be silence."""
        if answer.status == 429:
            self._pace.hush(self._after_s(answer) or 0.0)
        return answer

    def _silence(self, doing: str, error: Exception, *, creating: bool = False) -> ProviderError:
        """What it means that `httpx` got no answer."""
        import httpx

        unsent = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
        sent = not isinstance(error, (*unsent, httpx.UnsupportedProtocol, httpx.InvalidURL))
        return self.troubles.unreachable(doing, f"{type(error).__name__}: {error}", sent=sent, creating=creating)

    def _after_s(self, answer: Answer) -> float | None:
        """Retry-After in seconds, which may stand there as a number or as a date."""
        said = answer.headers.get("retry-after", "")
        try:
            wait_s = float(said)
        except ValueError:
            try:
                at = email.utils.parsedate_to_datetime(said)
            except (ValueError, OverflowError):
                return None
            # `-0000` is a time of no zone.
            wait_s = ((at if at.tzinfo else at.replace(tzinfo=UTC)) - self._clock.now()).total_seconds()
        return None if math.isnan(wait_s) else min(max(0.0, wait_s), LONGEST_S)


@dataclass(frozen=True, kw_only=True)
class Bookmark:
    """What one poll hands to the next. Subclasses are frozen dataclasses of plain values that all have a default."""

    @classmethod
    def of(cls, text: str | None) -> Self:
        """From what the last poll handed out."""
        return cls(**json.loads(text)) if text else cls()

    def text(self) -> str:
        """To be handed out."""
        return json.dumps(asdict(self), separators=(",", ":"))


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


def unknown(raw: str, now: datetime) -> Event:
    """The provider says that a job is in a state of which nobody knows what it means."""
    return Event(kind="warning", message=f"the provider says {raw!r}, a word that ft does not know", at=now)
