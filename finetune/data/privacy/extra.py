"""The two libraries that check numbers come by an extra; whoever has not installed it is told so, and how."""

import importlib
import importlib.util
from types import ModuleType

from finetune.errors import DataError, Problem

#: The import packages of python-stdnum and phonenumbers.
LIBRARIES = ("stdnum", "phonenumbers")

MISSING = Problem(
    code="E241",
    what="personal data cannot be looked for: the libraries that check the numbers are not installed",
    why="phone numbers, payment cards, IBANs and national ids are told from other digits by python-stdnum and "
    "phonenumbers",
    fix="install them with `pip install 'ft-orchestrator[privacy]'`, or set `privacy: off` in the recipe",
)


def available() -> Problem | None:
    """None where `find` can run, else what to tell the user (E241). Imports nothing."""
    if all(importlib.util.find_spec(name) for name in LIBRARIES):
        return None
    return MISSING


def load(name: str) -> ModuleType:
    """The module `name` of one of the libraries. Raises DataError (E241) where it is not installed."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as missing:
        raise DataError(MISSING) from missing
