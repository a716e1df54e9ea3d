"""How models are named. `bot@v3` is a version, `bot@production` an alias, `bot` stands for its production."""

import re
from pathlib import Path
from typing import Final

#: The alias that a bare name stands for.
PRODUCTION: Final = "production"
#: Base models that ft builds itself are called `builtin:NAME`.
BUILTIN: Final = "builtin:"
BUILTINS: Final = frozenset({"tiny-llama"})
_ALIAS: Final = re.compile(r"[a-z][a-z0-9_.-]{0,63}")
_VERSION: Final = re.compile(r"v[0-9]+")


def folder_of(base_model: str) -> Path | None:
    """The folder that the name of a base model means; None for an id on the hub. Nothing is looked for.

    Ids are `name` or `owner/name`, so what stands in a worker's folder never decides what they mean.
    """
    is_path = base_model.startswith(("/", "./", "../", "~")) or base_model.count("/") > 1
    return Path(base_model).expanduser() if is_path else None


def public_name(name: str, alias: str) -> str:
    """What callers ask for: `bot` for its production, `bot@staging` for another alias."""
    return name if alias == PRODUCTION else f"{name}@{alias}"


def beside(name: str, other: str) -> str:
    """Another version of the model `name`, as a gate names it: `production` is that of the same model."""
    return other if "@" in other else f"{name}@{other}"


def is_alias(text: str) -> bool:
    """Whether this can be an alias: lower case letters, digits, `_`, `.`, `-`; and not v1, which names a version."""
    return bool(_ALIAS.fullmatch(text)) and not _VERSION.fullmatch(text)
