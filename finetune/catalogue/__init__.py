"""What each provider and model takes, costs, and until when; every claim with its source.

The claims stand in `providers/*.yaml`, for people to read and edit; `docs/catalogue.md` has the format. What is not
known is absent: nothing here is guessed. Importing this package loads neither pydantic nor YAML.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune.catalogue.rules import METHODS, Cost, DataRules, Layout, Method, Role

if TYPE_CHECKING:
    from finetune.catalogue.sheets import Catalogue, ProviderSheet

__all__ = ["METHODS", "Catalogue", "Cost", "DataRules", "Layout", "Method", "ProviderSheet", "Role", "load"]


def load(folder: Path | None = None, own: Path | None = None) -> "Catalogue":
    """The catalogue in `folder`: one sheet a file, `*.yaml`. None: the one that ships with ft.

    `own`: a file or a folder whose sheets are laid over these, or are new ones (docs/catalogue.md, "Your own").
    Reads the files anew at every call. Raises StateError with every fault of every file, each at its line and field.
    """
    from finetune.catalogue.reading import read

    return read(folder, own)


def __getattr__(name: str) -> Any:
    if name in ("Catalogue", "ProviderSheet"):
        from finetune.catalogue import sheets

        return getattr(sheets, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
