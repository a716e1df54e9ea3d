"""One way to ask a model, wherever it is: `Answerer` for its words, `Scorer` for its probabilities; and fakes of both.

Implementations: `local.Weights` (weights in this process), `endpoint.Endpoint` (any OpenAI-compatible server).
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from finetune.jobs import Json


@dataclass(frozen=True, kw_only=True)
class Question:
    """What a model is asked: the messages up to its turn, and the tools that it may call."""

    messages: Sequence[Json]
    #: In OpenAI's layout; empty: none.
    tools: Sequence[Json] = ()


@dataclass(frozen=True, kw_only=True)
class Call:
    """One call of a function, as the model wrote it."""

    name: str
    #: JSON as text; it need not be valid.
    arguments: str


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a model said."""

    text: str
    calls: tuple[Call, ...] = ()
    #: Tokens of the answer, as far as they were counted.
    tokens: int = 0
    #: Why there is no answer to this question though the model can be asked; None when there is one.
    fault: str | None = None


class Loss(NamedTuple):
    """Of one row: the negative log likelihood of the assistant's tokens in nats, and how many they are."""

    nll: float
    tokens: int


class Answerer(Protocol):
    """Answers greedily: asked twice, it says the same as far as its maker keeps that."""

    def answers(self, questions: Sequence[Question], max_tokens: int) -> list[Answer]:
        """One answer a question, in order, each of at most `max_tokens` tokens. Blocks till all are there.

        A question that this model cannot take (too long, refused) is an Answer with a `fault`. Raises EvaluationError;
        EvaluationUnavailable when another try may help.
        """
        ...


class Scorer(Protocol):
    """Tells how likely the wanted answers are. Needs the weights, so hosted models have none."""

    def losses(self, rows: Sequence[Json]) -> list[Loss]:
        """One a row `{"messages": [...], "tools"?}`, in order, over all tokens that a training would supervise.

        A row without such tokens has 0 of them. Blocks. Raises EvaluationError.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Model:
    """A model under evaluation."""

    #: As people know it: `support-bot@v3`, or the base model's name.
    name: str
    answerer: Answerer
    #: None where the weights are out of reach.
    scorer: Scorer | None = None
    #: The `transformers` model and its tokenizer while the context lasts; None where the weights are out of reach.
    weights: Callable[[], AbstractContextManager[tuple[Any, Any]]] | None = None


class FakeAnswerer:
    """Answers from a table by the last message's text, else by a rule. For tests and rehearsals."""

    def __init__(self, table: Mapping[str, Answer | str], otherwise: Callable[[str], str] = lambda text: "") -> None:
        self._table, self._otherwise = table, otherwise
        #: All questions so far, in order.
        self.asked: list[Question] = []

    def answers(self, questions: Sequence[Question], max_tokens: int) -> list[Answer]:
        """See `Answerer.answers`; words are its tokens."""
        self.asked += questions
        return [self._answer(str(question.messages[-1]["content"]), max_tokens) for question in questions]

    def _answer(self, text: str, max_tokens: int) -> Answer:
        found = self._table.get(text)
        if isinstance(found, Answer):
            return found
        words = (self._otherwise(text) if found is None else found).split(" ")[:max_tokens]
        return Answer(text=" ".join(words), tokens=len(words))


class FakeScorer:
    """Loses so many nats a word of the wanted answers. For tests and rehearsals."""

    def __init__(self, nats: float | Callable[[str], float]) -> None:
        self._nats = nats

    def losses(self, rows: Sequence[Json]) -> list[Loss]:
        """See `Scorer.losses`."""
        return [self._loss(str(row["messages"][-1]["content"])) for row in rows]

    def _loss(self, text: str) -> Loss:
        words = len(text.split())
        return Loss((self._nats(text) if callable(self._nats) else self._nats) * words, words)
