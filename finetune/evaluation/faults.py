"""How this room says what is wrong."""

from collections.abc import Callable
from typing import Any

from finetune.errors import EvaluationError, Problem


class EvaluationUnavailable(EvaluationError):
    """A model could not be asked this time; the same evaluation may succeed later."""

    retry = True


def fault(code: str, what: str, why: str = "", fix: str = "", *, file: str | None = None) -> EvaluationError:
    """The error of one problem. `file` is the file at fault, None where there is none."""
    return EvaluationError(Problem(code=code, what=what, why=why, fix=fix, file=file))


def needed(load: Callable[[], Any], install: str) -> Any:
    """What `load` returns, which imports what a `pip install` of this brings.

    Raises EvaluationError (E853) when it is missing.
    """
    try:
        return load()
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("finetune"):
            raise
        raise fault(
            "E853",
            f"evaluation needs the package {error.name}, which is not installed here",
            fix=f"pip install '{install}'",
        ) from error
