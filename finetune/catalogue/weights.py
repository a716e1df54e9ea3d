"""The same weights under other names: how each target calls a model, what stands in for it, how large it is."""

import difflib
from typing import Final

from finetune.catalogue.sheets import Catalogue, Model

#: The sheet of own machines, which train whatever has open weights.
LOCAL: Final = "local"
#: How names begin of what is made here, and of folders.
_OURS: Final = ("builtin:", "/", "./", "../", "~")
#: How alike two names are, of 1, where one may be a slip of the other: gpt-4o-mni and gpt-4o-mini.
_ALIKE: Final = 0.9


def called(catalogue: Catalogue, name: str, base_model: str) -> str | None:
    """The model of this name, or the same weights, as this target calls them; None: its sheet has them not.

    This machine trains whatever has open weights; what others have as an API alone it has not.
    """
    sheet = catalogue.provider(name)
    if sheet is not None and sheet.model(base_model) is not None:
        return base_model
    weights = _weights(catalogue, base_model)
    if sheet is None or not sheet.models or name == LOCAL:
        # Where no model is named, any that has weights may be there.
        unnamed = name == LOCAL and nameless(catalogue, base_model) is not None
        closed = weights is None and (unnamed or _known(catalogue, base_model))
        return None if closed else (weights or base_model) if name == LOCAL else base_model
    same = [each for each in sheet.models if each.open_weights and each.open_weights.value == weights]
    return same[0].name if same and "*" not in same[0].name else None


def nameless(catalogue: Catalogue, base_model: str) -> tuple[str, str] | None:
    """What is wrong with the name, and why, where no weights on the hub can have it; None: they can.

    The hub's names have an owner and do not move; `builtin:` and folders are no names of the hub. Mistral's release
    note of 2024-02-26 says what `-latest` is (docs.mistral.ai/resources/release-note).
    """
    if base_model.startswith(_OURS):
        return None
    if base_model.endswith("-latest") and "/" not in base_model:
        what = f"{base_model} names no weights: its maker moves the name from version to version"
        return what, "where a version's weights are given away, they are on the hub under a name of their own"
    if ":" in base_model and not _known(catalogue, base_model):
        return f"{base_model} names no weights on the hub", "names there have no colon; what Ollama pulls has one"
    return None


def stand_in(catalogue: Catalogue, name: str, base_model: str) -> str | None:
    """Open weights of the same family or maker that this target has, the first that a sheet names; None: none.

    Never the model itself, under none of its names.
    """
    weights_of_it = _weights(catalogue, base_model)
    for sheet in catalogue.sheets.values():
        model = sheet.model(base_model)
        if model is None:
            continue
        own = (base_model, model.name, weights_of_it)
        for weights in (*model.stands_in, *sheet.stands_in):
            there = None if weights.value in own else called(catalogue, name, weights.value)
            if there and there not in own:
                return there
    return None


def slip(catalogue: Catalogue, base_model: str) -> str | None:
    """The name of a model that somebody offers, where this one is nobody's and but a letter or two away; else None."""
    if "/" in base_model or nameless(catalogue, base_model) or _known(catalogue, base_model):
        return None
    names = (
        name for sheet in catalogue.sheets.values() for model in sheet.models for name in (model.name, *model.aliases)
    )
    near = difflib.get_close_matches(base_model, {each for each in names if "*" not in each}, 1, _ALIKE)
    return near[0] if near else None


def parameters(catalogue: Catalogue, base_model: str) -> int | None:
    """How many this model has, by whichever sheet tells of the same weights; None: none does."""
    weights = _weights(catalogue, base_model) or base_model
    for sheet in catalogue.sheets.values():
        for model in sheet.models:
            same = model.name == base_model or (model.open_weights and model.open_weights.value == weights)
            if same and model.parameters:
                return model.parameters.value
    return None


def context(catalogue: Catalogue, model: Model | None, base_model: str) -> int | None:
    """Tokens of one request: of the target's own model; for own machines, of the weights where somebody tells."""
    if model is not None:
        return model.context.value if model.context else None
    every = (each for sheet in catalogue.sheets.values() for each in sheet.models)
    same = (each for each in every if each.open_weights and each.open_weights.value == base_model)
    return next((each.context.value for each in same if each.context), None)


def _known(catalogue: Catalogue, base_model: str) -> bool:
    return any(each.model(base_model) for each in catalogue.sheets.values())


def _weights(catalogue: Catalogue, base_model: str) -> str | None:
    """The weights of this model on the hub; the name itself where somebody's sheet has it as such."""
    for sheet in catalogue.sheets.values():
        if (model := sheet.model(base_model)) and model.open_weights:
            return model.open_weights.value
        if any(each.open_weights and each.open_weights.value == base_model for each in sheet.models):
            return base_model
    return None
