"""Secrets have no place in a recipe, and none is ever shown when somebody puts one there."""

import re
from collections.abc import Iterator
from typing import Any, Final

from finetune.spec.document import Steps
from finetune.spec.scalars import shown

#: What is shown instead.
HIDDEN: Final = "(hidden)"

_KEY: Final = re.compile(
    r"(?:^|_)(?:api|access|auth|bearer|hf|secret|private|refresh)_?(?:key|token)s?$"
    r"|^token$|secret|passw|credential|authorization",
    re.IGNORECASE,
)
_VALUE: Final = re.compile(r"\b(?:sk-|hf_|gh[pousr]_|github_pat_|AKIA|xox[abp]-|Bearer )\S{6,}|://[^/\s:@]*:[^/\s@]+@")


def secret_key(key: str) -> bool:
    """True for a key such as api_key or password."""
    return bool(_KEY.search(key))


def display(key: str, value: Any) -> str:
    """The value for a message: shortened, and not at all where it may be a secret."""
    if secret_key(key) or any(True for _ in secrets(value, ())):
        return HIDDEN
    # Looked at before it is shortened: half a key must not slip through either.
    return HIDDEN if _VALUE.search(str(value)) else shown(value)


def secrets(value: Any, steps: Steps) -> Iterator[Steps]:
    """Places below `steps` whose key or text says that a secret is there."""
    if isinstance(value, dict):
        for key, each in value.items():
            if secret_key(str(key)) and isinstance(each, str):
                yield (*steps, key)
            else:
                yield from secrets(each, (*steps, key))
    elif isinstance(value, list):
        for position, each in enumerate(value):
            yield from secrets(each, (*steps, position))
    elif isinstance(value, str) and _VALUE.search(value):
        yield steps
