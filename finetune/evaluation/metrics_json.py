"""Metrics of answers that must be JSON."""

import json
from functools import lru_cache
from typing import Any, NoReturn

from finetune.evaluation.faults import fault, needed
from finetune.evaluation.models import Answer
from finetune.evaluation.rows import Row


def json_valid(row: Row, answer: Answer) -> float:
    """1 when the whole answer is one JSON value: no fence, no word around it, no NaN."""
    try:
        parsed(answer.text)
    except ValueError:
        return 0.0
    return float(answer.fault is None)


def json_schema(row: Row, answer: Answer) -> float:
    """1 when the answer is JSON that fits the row's schema, in the draft that its `$schema` names (2020-12 else).

    `format` is not checked, as the standard has it. Nothing is fetched: a `$ref` to another document is an error
    (E852), and so is a schema that is none.
    """
    check = _validator(json.dumps(row.schema, sort_keys=True))
    try:
        value = parsed(answer.text)
    except ValueError:
        return 0.0
    from referencing.exceptions import Unresolvable

    try:
        return float(answer.fault is None and check.is_valid(value))
    except Unresolvable as error:
        raise _no_schema(f"it refers to {error.ref}, which is not in it") from error


def parsed(text: str) -> Any:
    """The JSON value that the text is. Raises ValueError, also for NaN and infinities and for what nests too deep."""
    try:
        return json.loads(text, parse_constant=_refuse)
    except RecursionError:
        raise ValueError("nested too deep") from None


def _refuse(word: str) -> NoReturn:
    raise ValueError(f"{word} is not JSON")


@lru_cache(maxsize=256)
def _validator(schema: str) -> Any:
    def load() -> Any:
        import jsonschema

        return jsonschema

    jsonschema = needed(load, "ft-orchestrator[eval]")
    from referencing import Registry

    value = json.loads(schema)
    known = jsonschema.validators.validator_for(value, default=jsonschema.Draft202012Validator)
    try:
        known.check_schema(value)
    except jsonschema.SchemaError as error:
        raise _no_schema(error.message) from error
    # The default registry would fetch what a `$ref` names.
    empty: Any = Registry()
    return known(value, registry=empty)


def _no_schema(why: str) -> Exception:
    return fault("E852", "a schema of the suite cannot be used", why[:300], "mend the `schema` in the suite or the row")
