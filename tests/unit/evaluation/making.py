"""Rows, answers and models for tests."""

from collections.abc import Sequence
from typing import Any

from finetune.evaluation.models import Answer, Call, FakeAnswerer, FakeScorer, Model
from finetune.evaluation.rows import Row, row_of
from finetune.evaluation.suites import Suite


def row(wanted: str | dict[str, Any] | None = None, *, prompt: str = "?", **more: Any) -> Row:
    """A row whose wanted answer is a text or a message."""
    last = {"role": "assistant", "content": wanted} if isinstance(wanted, str) else wanted
    messages = [{"role": "user", "content": prompt}, *([last] if last else [])]
    return row_of({"messages": messages, **more})


def said(text: str = "", *calls: tuple[str, str]) -> Answer:
    return Answer(text=text, calls=tuple(Call(name=name, arguments=arguments) for name, arguments in calls))


def calling(*calls: tuple[str, str]) -> dict[str, Any]:
    """An assistant message with these calls, in OpenAI's layout."""
    made = [
        {"id": f"c{i}", "type": "function", "function": {"name": name, "arguments": arguments}}
        for i, (name, arguments) in enumerate(calls)
    ]
    return {"role": "assistant", "content": None, "tool_calls": made}


def suite(rows: Sequence[Row], *metrics: str, name: str = "s") -> Suite:
    return Suite(name=name, rows=tuple(rows), metrics=metrics)


def model(name: str, table: dict[str, str], nats: float | None = None) -> Model:
    return Model(
        name=name, answerer=FakeAnswerer(table, lambda text: ""), scorer=None if nats is None else FakeScorer(nats)
    )
