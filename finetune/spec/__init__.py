"""The recipe: read it, with every fault at its line; write it back; describe it to editors.

Nothing is converted and nothing is dropped silently: an unknown key, a quoted number or an empty value is an
error that says how to mend it, and an unset field stays told from one that is set to its default.
"""

from finetune.spec.export import canonical, default, explicit, json_schema
from finetune.spec.model import (
    Dataset,
    Gate,
    Limits,
    Local,
    Lora,
    Recipe,
    Region,
    Register,
    Resources,
    Training,
    Validation,
)
from finetune.spec.reader import OVERRIDE, RecipeFile, parse, read
from finetune.spec.rooting import rooted
from finetune.spec.starter import starter

__all__ = [
    "OVERRIDE",
    "Dataset",
    "Gate",
    "Limits",
    "Local",
    "Lora",
    "Recipe",
    "RecipeFile",
    "Region",
    "Register",
    "Resources",
    "Training",
    "Validation",
    "canonical",
    "default",
    "explicit",
    "json_schema",
    "parse",
    "read",
    "rooted",
    "starter",
]
