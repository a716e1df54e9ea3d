"""Base and tuned model side by side on rows that training has not seen."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from finetune.jobs import Json

#: Greedy answers to chats, in order.
Answers = Callable[[Sequence[Sequence[Json]]], Sequence[str]]


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One held-out row: the last user message, the wanted answer, and what both models said."""

    prompt: str
    wanted: str
    base: str
    tuned: str


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """All rows, and the share of exact matches from 0 to 1."""

    pairs: tuple[Pair, ...]
    base: float
    tuned: float


def exact_match(said: str, wanted: str) -> bool:
    """Equal but for white space at the ends."""
    return said.strip() == wanted.strip()


def compare(rows: Sequence[Json], base: Answers, tuned: Answers) -> Comparison:
    """Ask both for the last assistant turn of every row, `{"messages": [...]}`. Raises ValueError without rows."""
    if not rows:
        raise ValueError("no rows to compare on")
    chats = [row["messages"][:-1] for row in rows]
    wanted = [str(row["messages"][-1]["content"]) for row in rows]
    said_base, said_tuned = base(chats), tuned(chats)
    pairs = tuple(
        Pair(prompt=str(chat[-1]["content"]), wanted=want, base=plain, tuned=better)
        for chat, want, plain, better in zip(chats, wanted, said_base, said_tuned, strict=True)
    )
    return Comparison(
        pairs=pairs,
        base=sum(exact_match(pair.base, pair.wanted) for pair in pairs) / len(pairs),
        tuned=sum(exact_match(pair.tuned, pair.wanted) for pair in pairs) / len(pairs),
    )
