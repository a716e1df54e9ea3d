"""One answer in the making: the loop over tokens. It knows the engine only by the four things it asks of it."""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from typing import Any, Protocol

from finetune.jobs import Json
from finetune.serving.asks import Ask, FinishReason
from finetune.serving.text import Detokeniser, StopFilter


class Steps(Protocol):
    """What an answer needs of its engine."""

    #: Ids that end an answer.
    stop_ids: frozenset[int]

    def using(self, adapter_id: str | None) -> AbstractContextManager[Any]:
        """Hold the adapter for as long as the answer runs; yields what `tokens` wants to know of it."""
        ...

    def tokens(self, prompt: list[int], room: int, ask: Ask, held: Any) -> Generator[int, None, None]:
        """The answer's tokens, the one that ends the turn included. To be closed."""
        ...

    def decode(self, ids: list[int]) -> str:
        """Text of the ids."""
        ...


@dataclass
class _Tally:
    """What the loop has counted. Apart from the answer, so that an answer that is dropped ends at once.

    A generator that held its answer would be a cycle, and hold the adapter until the collector comes.
    """

    completion_tokens: int = 0
    finish_reason: FinishReason | None = None


class Answer:
    """`asks.Generation` on a real engine."""

    def __init__(self, engine: Steps, ask: Ask, prompt: list[int], room: int, adapter_id: str | None) -> None:
        self.prompt_tokens = len(prompt)
        self._tally = _Tally()
        self._pieces = _run(self._tally, engine, ask, prompt, room, adapter_id)

    @property
    def completion_tokens(self) -> int:
        """Tokens made so far, the one that ended the turn included."""
        return self._tally.completion_tokens

    @property
    def finish_reason(self) -> FinishReason | None:
        """None until it has ended by itself."""
        return self._tally.finish_reason

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        return next(self._pieces)

    def close(self) -> None:
        """Let go of adapter and cache. Idempotent."""
        self._pieces.close()


def _run(
    tally: _Tally, engine: Steps, ask: Ask, prompt: list[int], room: int, adapter_id: str | None
) -> Generator[str, None, None]:
    text = Detokeniser(engine.decode)
    stops = StopFilter(ask.stop)
    with engine.using(adapter_id) as held, closing(engine.tokens(prompt, room, ask, held)) as tokens:
        for token in tokens:
            tally.completion_tokens += 1
            if token in engine.stop_ids:
                tally.finish_reason = "stop"
                break
            piece = stops.push(text.push(token))
            if stops.hit:
                tally.finish_reason = "stop"
                yield piece
                return
            yield piece
    tally.finish_reason = tally.finish_reason or "length"
    last = stops.push(text.flush())
    if stops.hit:
        tally.finish_reason = "stop"
    yield last + stops.flush()


class EngineChat:
    """`ports.Chat` on an engine: the same answers as the server's, without HTTP."""

    def __init__(self, begin: Callable[[Ask], Answer]) -> None:
        self._begin = begin

    def stream(
        self, messages: Sequence[Json], *, max_tokens: int, temperature: float, seed: int | None
    ) -> Iterator[str]:
        """Pieces of text, none empty. Closing the iterator ends the answer. Raises ServingError at the first piece."""
        answer = self._begin(Ask(messages=messages, max_tokens=max_tokens, temperature=temperature, seed=seed))
        try:
            yield from filter(None, answer)
        finally:
            answer.close()
