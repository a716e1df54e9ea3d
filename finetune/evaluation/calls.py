"""Calls of functions in what a local model writes: each family of models has its own marks around the same JSON.

Known are Hermes' and Qwen's (`<tool_call>{...}</tool_call>`), Mistral's (`[TOOL_CALLS][{...}, ...]`), and JSON without
marks as Llama 3 writes it (`{"name": ..., "parameters": {...}}`).
"""

import json
import re
from typing import Any, Final

from finetune.evaluation.models import Call

_MARKED: Final = re.compile(r"<tool_call>(.*?)(?:</tool_call>|\Z)", re.DOTALL)
_LISTED: Final = "[TOOL_CALLS]"


def split(text: str) -> tuple[str, tuple[Call, ...]]:
    """The text without its calls, and the calls in order. What cannot be read as a call stays in the text."""
    if "<tool_call>" in text:
        return _marked(text)
    if _LISTED in text:
        before, _, after = text.partition(_LISTED)
        calls = _read(after)
        return (before.strip(), calls) if calls else (text, ())
    calls = _read(text) if text.lstrip().startswith("{") else ()
    return ("", calls) if calls else (text, ())


def _marked(text: str) -> tuple[str, tuple[Call, ...]]:
    calls: list[Call] = []

    def take(found: re.Match[str]) -> str:
        read = _read(found[1])
        calls.extend(read)
        return "" if read else found[0]

    return _MARKED.sub(take, text).strip(), tuple(calls)


def _read(text: str) -> tuple[Call, ...]:
    """The calls of a JSON object or a list of them; empty when it is not one or holds anything else."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return ()
    made = [_call(each) for each in (value if isinstance(value, list) else [value])]
    calls = [call for call in made if call is not None]
    return tuple(calls) if len(calls) == len(made) else ()


def _call(value: Any) -> Call | None:
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        return None
    arguments = value.get("arguments", value.get("parameters"))
    if isinstance(arguments, str):
        return Call(name=value["name"], arguments=arguments)
    if not isinstance(arguments, dict):
        return None
    return Call(name=value["name"], arguments=json.dumps(arguments, ensure_ascii=False))
