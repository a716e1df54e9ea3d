"""A short cut through Jinja's sandbox for what chat templates do most: read a message, call a method of a text.

The sandbox looks for an attribute first and catches that a dict has none; it asks of each method of a text, at each
use, whether it is safe. What is answered here without asking is what it answers always; all else it is asked.
"""

from typing import Any, Final

#: What a dict has besides its keys.
_OF_DICTS: Final = frozenset(dir(dict))
#: The methods of a text that the sandbox allows as they are. A format string could read any attribute.
_OF_TEXTS: Final = frozenset(name for name in dir(str) if name[0] != "_") - {"format", "format_map"}
_OF_LOOPS: Final = frozenset({"index", "index0", "first", "last"})
_METHOD: Final[Any] = type("".strip)


def hasten(environment: Any) -> None:
    """Let the templates of an `ImmutableSandboxedEnvironment` take the short cut. Idempotent."""
    if "call" in vars(environment):
        return
    from jinja2.runtime import LoopContext

    careful, careful_call = environment.getattr, environment.call

    def read(obj: Any, name: str) -> Any:
        kind = type(obj)
        if kind is dict and name in obj and name not in _OF_DICTS:
            return obj[name]
        if (kind is str and name in _OF_TEXTS) or (kind is LoopContext and name in _OF_LOOPS):
            return getattr(obj, name)
        return careful(obj, name)

    def call(context: Any, called: Any, /, *args: Any, **kwargs: Any) -> Any:
        if type(called) is not _METHOD or type(called.__self__) is not str or called.__name__ not in _OF_TEXTS:
            return careful_call(context, called, *args, **kwargs)
        # What Jinja adds for functions that ask for the context.
        kwargs.pop("_loop_vars", None)
        kwargs.pop("_block_vars", None)
        return called(*args, **kwargs)

    environment.getattr, environment.call = read, call
