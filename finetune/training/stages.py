"""The trainer's stages as spans, children of the worker's. No torch here; nothing at all where nothing is traced."""

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from types import ModuleType
from typing import Any, Final

from finetune import traces

#: Functions as `trainer.train` calls them, by their place in its module: the stage's name, and what it tells of itself.
STAGES: Final[Mapping[str, tuple[str, Callable[..., Mapping[str, int]]]]] = {
    "bases.load": ("load base", lambda *_: {}),
    "_read_data": ("read data", lambda *_: {}),
    "Loop.run": ("train", lambda loop: {"ft.steps": loop.steps.total}),
    "adapter.write": ("write adapter", lambda *_: {}),
}


def train(trainer: ModuleType, *given: Any) -> dict[str, object]:
    """What `trainer.train` does with `given`, in a span of its own, with one for each stage.

    The environment's TRACEPARENT is their parent. Blocks for up to a second longer where a collector does not answer.
    """
    with traces.running(_say), traces.Scope("trainer", parent=os.environ.get("TRACEPARENT")), _spanned(trainer):
        made: dict[str, object] = trainer.train(*given)
    return made


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


@contextmanager
def _spanned(trainer: ModuleType) -> Iterator[None]:
    """In this process, which does nothing else: so that the training itself need not know of traces."""
    with ExitStack() as stack:
        if traces.header() is not None:
            for place, (name, about) in STAGES.items():
                stack.enter_context(_replaced(*found(trainer, place), name, about))
        yield


def found(trainer: ModuleType, place: str) -> tuple[Any, str]:
    """The object that has the function, and the function's name in it."""
    *path, name = place.split(".")
    owner: Any = trainer
    for each in path:
        owner = getattr(owner, each)
    return owner, name


@contextmanager
def _replaced(owner: Any, attribute: str, name: str, about: Callable[..., Mapping[str, int]]) -> Iterator[None]:
    plain = getattr(owner, attribute)

    def traced(*args: Any, **more: Any) -> Any:
        with traces.span(name, about(*args)):
            return plain(*args, **more)

    setattr(owner, attribute, traced)
    try:
        yield
    finally:
        setattr(owner, attribute, plain)
