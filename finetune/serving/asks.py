"""What travels between the server and the engine: a question, and an answer in the making."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from finetune.errors import Problem, ServingError
from finetune.jobs import Json
from finetune.ports import Chat, LoadedBase

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True, kw_only=True)
class Ask:
    """One question to one model. The defaults are those of OpenAI's API."""

    #: `{"role", "content"}` with text content, oldest first.
    messages: Sequence[Json]
    #: At most this many new tokens, >= 1; None: as many as the context still holds.
    max_tokens: int | None = None
    #: 0 is greedy.
    temperature: float = 1.0
    #: Sample among the likeliest tokens that together reach this probability, 0 < p <= 1.
    top_p: float = 1.0
    #: The same seed gives the same answer on the same machine; None: drawn anew each time.
    seed: int | None = None
    #: The answer ends before the first of these; none is part of it.
    stop: tuple[str, ...] = ()


class Generation(Protocol):
    """An answer in the making: iterate for its pieces, one per token, empty where a token gives no text yet.

    Not to be iterated by two threads at once, but each step may come from another thread. `close` ends it early;
    idempotent.
    """

    @property
    def prompt_tokens(self) -> int:
        """Tokens of the rendered prompt."""
        ...

    @property
    def completion_tokens(self) -> int:
        """Tokens generated so far, the end-of-turn token included."""
        ...

    @property
    def finish_reason(self) -> FinishReason | None:
        """Why it ended; None while it goes on, or when it was closed."""
        ...

    def __iter__(self) -> Iterator[str]:
        """Itself."""
        ...

    def __next__(self) -> str:
        """The next piece; one forward pass. Raises ServingError."""
        ...

    def close(self) -> None:
        """Generate nothing more and let go of the adapter. May wait for a forward pass that is under way."""
        ...


class BaseEngine(Protocol):
    """What the pool needs of an engine; `engine.Engine` is the real one."""

    def load_adapter(self, adapter_id: str, path: Path, digest: str | None = None) -> None:
        """See `Engine.load_adapter`."""
        ...

    def unload_adapter(self, adapter_id: str) -> bool:
        """See `Engine.unload_adapter`."""
        ...

    def generate(self, ask: Ask, adapter_id: str | None) -> Generation:
        """See `Engine.generate`."""
        ...

    def chat(self, adapter_id: str | None) -> Chat:
        """See `Engine.chat`."""
        ...

    def fits(self, messages: Sequence[Json], adapter_id: str | None, max_tokens: int) -> bool:
        """See `Engine.fits`."""
        ...

    def answers(self, prompts: Sequence[Sequence[Json]], adapter_id: str | None, max_tokens: int) -> list[str]:
        """See `Engine.answers`."""
        ...


#: Makes an engine of a loaded base: (base name, loaded base).
EngineMaker = Callable[[str, LoadedBase], BaseEngine]


def fault(code: str, what: str, why: str = "", fix: str = "", *, field: str | None = None) -> ServingError:
    """The error of one problem. `field` is the request's field at fault, None where there is none."""
    return ServingError(Problem(code=code, what=what, why=why, fix=fix, field=field))
