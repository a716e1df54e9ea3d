"""What stands against a recipe's gate before anything is trained."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from finetune.errors import NotFound, Problem
from finetune.names import beside

if TYPE_CHECKING:
    from finetune.spec import Recipe
    from finetune.spec.model import Gate
    from finetune.versions import ModelVersion


def measurable(recipe: "Recipe", *, here: bool, version: "Callable[[str], ModelVersion]") -> list[Problem]:
    """What stands against the recipe's gate.

    `here`: it is trained on own machines, and has its weights there. `version` finds one by its name (NotFound).
    """
    from importlib.util import find_spec

    gate, found = recipe.gate, []
    if gate is None:
        return []
    if recipe.validation is None:
        what = f"the gate has nothing to measure {gate.metric} on"
        why, fix = "the recipe holds no rows out", "add `validation: {split: 0.1}`"
        found.append(Problem(code="E850", what=what, why=why, fix=fix, field="gate"))
    if here:
        found += _over_another_base(recipe, gate, version)
    if find_spec("numpy") is None:
        what, fix = "a gate needs the extra `eval`, which is not installed here", "pip install 'ft-orchestrator[eval]'"
        return [*found, Problem(code="E853", what=what, fix=fix, field="gate")]
    from finetune.evaluation.metrics import METRICS

    if gate.metric not in METRICS:
        what, why = f"there is no metric {gate.metric!r}", f"there are {', '.join(METRICS)}"
        found.append(Problem(code="E851", what=what, why=why, fix="write one of these", field="gate.metric"))
    missing = [name for name in gate.guards if name.endswith((".yaml", ".yml")) and not Path(name).is_file()]
    for name in missing:
        what = f"the guard suite {name} is not there"
        found.append(Problem(code="E850", what=what, fix="its path starts at the recipe's folder", field="gate.guards"))
    return found


def over_its_base(recipe: "Recipe", version: "Callable[[str], ModelVersion]") -> bool:
    """Whether what the recipe makes will be compared with its base: by its gate, or for its proof only."""
    gate = recipe.gate
    if gate is None or gate.over == "base":
        return True
    try:
        version(beside(recipe.name, gate.over))
    except NotFound:
        # An alias that nobody has yet is measured over the base.
        return True
    return False


def _over_another_base(recipe: "Recipe", gate: "Gate", version: "Callable[[str], ModelVersion]") -> list[Problem]:
    """E856, as the gate itself would say it after the training: an evaluation loads one base."""
    if gate.over == "base":
        return []
    try:
        other = version(beside(recipe.name, gate.over))
    except NotFound:
        # An alias that nobody has yet is measured over the base, and a version may come before the gate does.
        return []
    if "path" not in other.artifact or other.base_model == recipe.base_model:
        return []
    return [
        Problem(
            code="E856",
            what=f"the gate cannot measure {recipe.name} over {other.ref}: two bases would have to be loaded",
            why=f"their bases differ: {recipe.base_model} and {other.base_model}, both with weights here",
            fix=f"write `over: base`, or train on `base_model: {other.base_model}`",
            field="gate.over",
        )
    ]
