"""Relative paths of a recipe as absolute ones."""

from dataclasses import replace
from pathlib import Path

from finetune.spec.reader import RecipeFile


def rooted(file: RecipeFile) -> RecipeFile:
    """The recipe with relative paths of its base model (`./`, `../`, `~`) and guard suites as absolute ones.

    Like the data's, they start at the recipe's folder: the worker that reads them stands elsewhere.
    """
    recipe = file.recipe
    changed: dict[str, object] = {}
    if recipe.base_model.startswith(("./", "../", "~")):
        changed["base_model"] = str(_rooted(file, recipe.base_model))
    if recipe.gate and (guards := tuple(_guard(file, name) for name in recipe.gate.guards)) != recipe.gate.guards:
        changed["gate"] = recipe.gate.model_copy(update={"guards": guards})
    return replace(file, recipe=recipe.model_copy(update=changed)) if changed else file


def _rooted(file: RecipeFile, path: str) -> Path:
    return (file.path.parent / Path(path).expanduser()).resolve()


def _guard(file: RecipeFile, name: str) -> str:
    return str(_rooted(file, name)) if name.endswith((".yaml", ".yml")) else name
