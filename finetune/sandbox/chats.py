"""What the models of stand-ins say: their own names, so that answers tell who gave them; always the same."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

#: Characters of a token: no tokenizer ships with ft.
_A_TOKEN: Final = 4


def said(model: str, messages: Sequence[Mapping[str, Any]]) -> str:
    """What `model` answers: its name, and what it was asked last."""
    return f"I am {model}: {_text(messages[-1])}"


def used(messages: Sequence[Mapping[str, Any]], answer: str) -> dict[str, int]:
    """What is billed, as both vendors name it; estimated."""
    prompt, completion = sum(_tokens(_text(each)) for each in messages), _tokens(answer)
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def _text(message: Mapping[str, Any]) -> str:
    content = message.get("content")
    if isinstance(content, list):
        return " ".join(str(part["text"]) for part in content if isinstance(part, dict) and "text" in part)
    return str(content or "")


def _tokens(text: str) -> int:
    return 1 + len(text) // _A_TOKEN
