"""Did the model call the right functions with the right arguments?"""

import json
from collections import Counter
from collections.abc import Iterable
from typing import Any

from finetune.evaluation.metrics_json import parsed
from finetune.evaluation.models import Answer, Call
from finetune.evaluation.rows import Row


def tool_calls(row: Row, answer: Answer) -> float:
    """1 when the calls are the wanted ones, in any order, each as often; the answer's text does not matter.

    Names are equal as they stand; arguments are equal as JSON: order of keys, white space and the notation of numbers
    (1 and 1.0) are free, order in lists is not. Arguments that are no JSON equal nothing but the same text. It is what
    the Berkeley Function-Calling Leaderboard (Patil et al.) calls AST matching, with one accepted value an argument.
    """
    return float(answer.fault is None and _bag(answer.calls) == _bag(row.calls))


def _bag(calls: Iterable[Call]) -> Counter[tuple[str, str]]:
    return Counter((call.name, _canonical(call.arguments)) for call in calls)


def _canonical(arguments: str) -> str:
    # No arguments at all are written as nothing or as {}.
    if not arguments.strip():
        return "{}"
    try:
        return json.dumps(_plain(parsed(arguments)), sort_keys=True)
    except (ValueError, RecursionError):
        return f"not JSON: {arguments}"


def _plain(value: Any) -> Any:
    """The same value with whole floats as integers: JSON has one kind of number."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
