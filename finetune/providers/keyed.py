"""What providers with a credential share: the recipe's fields that all follow, what is missing, a client made once."""

import threading
from collections.abc import Callable
from typing import Final, Generic, TypeVar

from finetune.errors import AuthenticationFailed, Problem

Client = TypeVar("Client")

#: Of `ports.Provider.honours`, what holds for each.
HONOURED: Final = frozenset(
    {"base_model", "method", "provider_options", "limits.max_cost", "limits.data", "limits.deadline"}
)


class Opened(Generic[Client]):
    """A client, made by the first request that needs it. Safe for threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._client: Client | None = None

    def get(self, unconfigured: Callable[[], list[Problem]], make: Callable[[], Client]) -> Client:
        """Always the same one. Raises AuthenticationFailed while something is missing."""
        with self._lock:
            if self._client is None:
                if problems := unconfigured():
                    raise AuthenticationFailed(*problems)
                self._client = make()
            return self._client


def missing(what: str, fix: str) -> Problem:
    """Something without which nothing can be sent."""
    return Problem(code="E412", what=what, why="nothing can be sent without it", fix=fix)
